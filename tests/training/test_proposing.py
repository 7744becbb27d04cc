"""A role that proposes what another solves: it is played and trained like any other, and paid for what becomes of its tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small
from small_run import config

from sojourn.core import Action, Environment, Episode, EpisodeGroup, Observation, Task, Transition
from sojourn.credit import columns, dr_grpo
from sojourn.curriculum import Mixture, Outcome, Proposing, Uniform, hard_not_hopeless, learnable
from sojourn.environments import TaskList
from sojourn.policy import Session
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, Role, Trainer


class Solving(Environment):
    """Pays whether the answer is longer, in plain characters, than the task says."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.least = task.data.get("least", 1)
        return Observation.of(f"More than {self.least}.")

    async def step(self, action: Action) -> Transition:
        won = sum(char.isascii() for char in action.text) > self.least
        return Transition(reward=float(won), terminated=True, info={"success": won})


class Asking(Environment):
    """Takes a proposal."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of(f"Ask something: {task.data['number']}.")

    async def step(self, action: Action) -> Transition:
        return Transition(reward={}, terminated=True, info={"least": sum(char.isascii() for char in action.text)})


async def propose(session: Session) -> None:
    context, action = await session.act(session.open(await session.reset(), agent="proposer"))
    await session.step(context, action)


def read(episode: Episode) -> Task | None:
    least = episode.info["least"]
    return Task("asked", {"least": least}) if least else None


def source(name: str, **data: Any) -> TaskList:
    return TaskList([Task(f"{name} {i}", {"number": i, **data}) for i in range(6)], [Task(f"{name} test", {"number": 9, **data})])


def experiment(roles: Mapping[str, Role] | None = None, **changes: Any) -> Experiment:
    others = Uniform(source("given", least=2))
    curriculum = Proposing(source("ask"), read, others, size=2, environment=Asking, program=propose, **changes)
    return Experiment(
        environment=Solving,
        tasks=source("given", least=2),
        protocol=PlainText(),
        curriculum=curriculum,
        credit=dr_grpo(),
        roles=roles or {"solver": Role(), "proposer": Role()},
        seats={"agent": "solver", "proposer": "proposer"},
    )


def trainer(tmp_path: Path, parts: Experiment, **changes: Any) -> Trainer:
    return Trainer(config(tmp_path, tmp_path, **({"groups": 5, "group_size": 4, "seed": 1} | changes)), parts, small())


def step(of: Trainer) -> tuple[list[EpisodeGroup], dict[str, Any]]:
    return asyncio.run(of.train_step())


def test_a_proposer_is_paid_for_what_became_of_its_task_and_learns_from_it(tmp_path: Path) -> None:
    run = trainer(tmp_path, experiment())
    groups, metrics = step(run)
    asked = [group for group in groups if group.key.startswith("play ")]
    solved = [group for group in groups if not group.key.startswith("play ")]
    assert (len(asked), len(solved)) == (2, 5)
    proposals = {f"asked@{episode.id}": episode for group in asked for episode in group.episodes}
    assert all(episode.actions and episode.tree[episode.actions[0]].agent == "proposer" for episode in proposals.values())
    played = [group for group in solved if group.task.id in proposals]
    assert played, "some proposal was a task"
    for group in played:
        rate = float(np.mean([episode.success for episode in group.episodes]))
        assert proposals[group.task.id].paid["proposer"] == {"proposed": pytest.approx(1 - abs(2 * rate - 1))}
    for name, episode in proposals.items():
        if name not in {group.task.id for group in played}:
            assert episode.paid["proposer"] == {"invalid": -1.0}
    given = [group for group in solved if group.task.id.startswith("given")]
    assert len(given) == 5 - len(played)
    assert metrics["proposer/reward"] == pytest.approx(np.mean([e.total for e in proposals.values()]))
    assert metrics["solver/reward"] == pytest.approx(np.mean([e.total for group in solved for e in group.episodes]))
    assert metrics["solver/ledger/sampled"] == 20 and metrics["proposer/ledger/sampled"] == 4


def test_what_the_proposer_does_is_not_in_the_solvers_denominators(tmp_path: Path) -> None:
    """The solver's table is that of its own groups."""
    run = trainer(tmp_path, experiment())
    groups, _ = step(run)
    solved = [group for group in groups if not group.key.startswith("play ")]
    table, advantage_T = run._last["solver"][1][:2]
    alone = columns(run.players["solver"].view(solved))
    np.testing.assert_array_equal(table.span_S, alone.span_S)
    np.testing.assert_allclose(advantage_T, dr_grpo()(alone))
    given = run.advantages(groups)
    assert all(
        set(each) == {span for e in group.episodes for span in e.actions} for group, each in zip(groups, given, strict=True)
    )


def test_a_frozen_proposer_changes_with_nothing_and_a_paid_one_does(tmp_path: Path) -> None:
    moved = {}
    for learns in (True, False):
        roles = {"solver": Role(), "proposer": Role(learns=learns)}
        run = trainer(tmp_path, experiment(roles, reward=lambda outcome: float(outcome.task.data["least"])))
        step(run)
        before = small().model.parameters()
        moved[learns] = any(
            not torch.equal(a, b) for a, b in zip(run.players["proposer"].model.parameters(), before, strict=True)
        )
    assert moved == {True: True, False: False}


def test_a_resumed_curriculum_asks_on(tmp_path: Path) -> None:
    whole = trainer(tmp_path, experiment())
    first, second = step(whole)[0], step(whole)[0]
    asked = [group.task.id for group in (*first, *second) if group.key.startswith("play ")]
    assert asked == ["ask 0", "ask 1", "ask 2", "ask 3"]
    half = trainer(tmp_path, experiment())
    step(half)
    resumed = experiment().curriculum
    resumed.load_state(json.loads(json.dumps(half.experiment.curriculum.state())))
    assert resumed.state() == half.experiment.curriculum.state()


def test_a_proposer_in_a_mixture_is_paid_as_well(tmp_path: Path) -> None:
    parts = experiment()
    mixed = Mixture({"asked": parts.curriculum, "given": Uniform(source("plain", least=3))}, {"asked": 4, "given": 1})
    groups, _ = step(trainer(tmp_path, replace(parts, curriculum=mixed)))
    paid = [episode.paid for group in groups if group.key.startswith("play ") for episode in group.episodes]
    assert len(paid) == 4 and all("proposer" in each for each in paid)


def test_proposing_cannot_be_imitated(tmp_path: Path) -> None:
    run = trainer(tmp_path, experiment(), warmup_steps=1)
    with pytest.raises(ValueError, match="warm up in a run of its own"):
        step(run)


def test_rewards_of_proposers_by_hand() -> None:
    seen = [Outcome(Task("t"), rate, False) for rate in (0.0, 0.25, 0.5, 1.0)]
    assert [learnable(each) for each in seen] == [0.0, 0.5, 1.0, 0.0]
    assert [hard_not_hopeless(each) for each in seen] == [0.0, 0.75, 0.5, 0.0]


def test_the_mean_absolute_advantage_reaches_the_curriculum(tmp_path: Path) -> None:
    heard: list[Outcome] = []

    class Hearing(Uniform):
        def observe(self, outcomes: Any) -> None:
            heard.extend(outcomes)

    parts = replace(experiment(), curriculum=Hearing(source("given", least=2)), roles={}, seats={})
    groups, _ = step(trainer(tmp_path, parts))
    for group, each in zip(groups, heard, strict=True):
        returns = [episode.total for episode in group.episodes]
        assert each.advantage == pytest.approx(np.mean([abs(value - np.mean(returns)) for value in returns]))
        assert each.returns == {"actor": tuple(returns)}
        assert each.answers == tuple(episode.tree[episode.actions[-1]].message.text.strip() for episode in group.episodes)
    assert any(each.advantage for each in heard)
