"""Every sampled episode ends in one state, the metrics say which, and figures are what they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small
from small_run import config, experiment

from sojourn.core import (
    Action,
    Environment,
    Episode,
    Failure,
    FailureKind,
    Kind,
    Observation,
    Span,
    Standing,
    Task,
    TrajectoryTree,
    Transition,
)
from sojourn.credit import Overlong, ZeroSignal, columns, dr_grpo
from sojourn.objectives import Mix, PolicyGradient, Supervised
from sojourn.policy import Session
from sojourn.store import RunFolder
from sojourn.training import Experiment, Trainer, train
from sojourn.training.ledger import Ledger


class Sometimes(Environment):
    """One turn, paid by the episode's number; `data["broken"]` of each group's episodes lose their sandbox."""

    made = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        type(self).made += 1
        self.number = self.made
        return Observation.of("Say it.")

    async def step(self, action: Action) -> Transition:
        if self.number in (1, 6):
            raise ConnectionResetError("the sandbox is gone")
        failures = (Failure(FailureKind.INFRASTRUCTURE, "judge", "asked twice", Standing.UNUSABLE),) if self.number == 2 else ()
        return Transition(reward=float(self.number % 2), terminated=True, failures=failures)


def stepped(tmp_path: Path, parts: Experiment, **changes: Any) -> tuple[Trainer, list[Episode], dict[str, Any]]:
    settings = replace(config(tmp_path, tmp_path), retries=0, **changes)
    trainer = Trainer(settings, parts, small())
    groups, metrics = asyncio.run(trainer.train_step())
    return trainer, [episode for group in groups for episode in group.episodes], metrics


def test_what_broke_what_was_filtered_and_what_was_trained_add_up(tmp_path: Path) -> None:
    Sometimes.made = 0
    parts = replace(experiment(), environment=Sometimes, filters=(ZeroSignal(),))
    trainer, episodes, metrics = stepped(tmp_path, parts)
    assert len(episodes) == 8
    counts = {name.removeprefix("ledger/"): int(n) for name, n in metrics.items() if name.startswith("ledger/")}
    assert counts == {"sampled": 8, "no result": 2, "unusable": 1, "trained": 5, "waiting": 0}
    assert (metrics["failed"], metrics["failures/infrastructure"]) == (2, 3)
    assert "the sandbox is gone" in metrics["failure"]
    assert str(trainer.ledger) == "sampled 8 = trained 5 + no result 2 + unusable 1 + waiting 0"


def test_what_is_complete_but_unusable_is_compared_with_and_not_trained(tmp_path: Path) -> None:
    Sometimes.made = 0
    trainer, episodes, _ = stepped(tmp_path, replace(experiment(), environment=Sometimes, credit=dr_grpo()))
    table, advantage_T, reasons, _ = trainer.last
    (unusable,) = [index for index, episode in enumerate(episodes) if episode.standing is Standing.UNUSABLE]
    group = table.group_E == table.group_E[unusable]
    counted = group & table.valid_E
    assert table.valid_E[unusable] and reasons[unusable] == "unusable"
    for index in np.flatnonzero(counted):  # its return is in the mean that the others are held against
        mine = table.episode_S[table.row_T] == index
        np.testing.assert_allclose(advantage_T[mine], table.return_E[index] - table.return_E[counted].mean())


def test_an_episode_that_is_lost_by_the_ledger_is_an_error() -> None:
    episodes = [Episode(str(i), Task("t"), TrajectoryTree()) for i in range(3)]
    ledger = Ledger()
    ledger.enter(episodes, ["", "ZeroSignal", "no result"])
    resumed = Ledger()
    resumed.load_state(ledger.state())
    assert resumed.counts() == ledger.counts()
    resumed.sampled += 1
    with pytest.raises(RuntimeError, match="does not add up"):
        resumed.check()


def test_cut_answers_are_told_and_overlong_masks_them(tmp_path: Path) -> None:
    """A single turn: the world ends, but the answers were cut, all but those that the policy ended itself."""
    _, episodes, metrics = stepped(tmp_path, replace(experiment(), filters=(Overlong(),)), max_tokens=4)
    cut = [episode.tree[episode.actions[-1]].stop == "length" for episode in episodes]
    assert any(cut)
    assert metrics["cut"] == np.mean(cut)
    assert metrics.get("ledger/Overlong", 0) == sum(cut)
    assert metrics["stop/terminated"] == 1.0


async def say_then_act(session: Session) -> None:
    """A forced thought, then a sampled answer."""
    context = session.say(session.open(await session.reset()), Action("I think hard."))
    context, action = await session.act(context)
    await session.step(context, action)


@pytest.mark.parametrize(
    ("objective", "forced"),
    [
        (PolicyGradient(), False),
        (Supervised(), True),
        (Mix(parts=(PolicyGradient(), Supervised()), weights=(1.0, 0.0)), False),
    ],
)
def test_forced_tokens_are_trained_by_imitation_alone(objective: Any, forced: bool, tmp_path: Path) -> None:
    """Whatever the harness says in the policy's name moves no weight of a policy gradient; a mix with weight 0 is its other part."""
    moved = []
    for objective_or_plain in (objective, PolicyGradient() if not forced else Supervised()):
        parts = replace(experiment(), program=say_then_act, objective=objective_or_plain)
        trainer, episodes, metrics = stepped(tmp_path, parts)
        moved.append([p.detach().clone() for p in trainer.model.parameters()])
        said = sum(len(e.tree[s].tokens) for e in episodes for s in e.actions if e.tree[s].kind == Kind.FORCED)
        sampled = sum(len(e.tree[s].tokens) for e in episodes for s in e.actions if e.tree[s].kind == Kind.ACTION)
        assert metrics["action_tokens"] == sampled
        if not isinstance(objective_or_plain, Mix):
            assert metrics["trained_tokens"] <= sampled if not forced else metrics["trained_tokens"] == sampled + said
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_the_divergence_is_the_learners_not_that_of_what_was_said(tmp_path: Path) -> None:
    """Before its first update a policy is its own reference, also on text that nobody sampled (whose log-probabilities are 0)."""
    from sojourn.objectives import Reference

    parts = replace(experiment(), program=say_then_act, objective=Supervised(), reference=Reference(kind="frozen"))
    frozen = replace(config(tmp_path, tmp_path).optimizer, learning_rate=0.0)
    _, _, metrics = stepped(tmp_path, parts, optimizer=frozen)
    assert metrics["kl"] < 1e-6


def branching(paid: list[float]) -> Episode:
    """A search: one prompt, as many answers as `paid` says."""
    tree = TrajectoryTree()
    root = tree.add(Span(-1, np.arange(3), Kind.OBSERVATION))
    episode = Episode("e", Task("t"), tree)
    for value in paid:
        episode.actions.append(tree.add(Span(root, np.arange(2), Kind.ACTION, np.zeros(2, np.float32), reward={"goal": value})))
    return episode


def test_a_search_has_not_earned_what_each_of_its_branches_earned() -> None:
    episode = branching([1.0, 1.0, 0.0, 1.0])
    assert (episode.total, episode.returns) == (0.75, [1.0, 1.0, 0.0, 1.0])


def test_contexts_that_are_not_linked_add_up() -> None:
    """Two agents, each with a prompt of its own; the second context of the first is a rewrite, so it is the same branch."""
    episode = branching([1.0])
    tree = episode.tree
    rewritten = tree.add(Span(-1, np.arange(4), Kind.OBSERVATION, source=episode.actions[0]))
    other = tree.add(Span(-1, np.arange(5), Kind.OBSERVATION, agent="other"))
    for parent in (rewritten, other):
        episode.actions.append(tree.add(Span(parent, np.arange(2), Kind.ACTION, reward={"goal": 1.0})))
    assert (episode.total, episode.returns) == (3.0, [2.0, 1.0])


def test_a_run_without_signal_says_so_and_what_to_try(tmp_path: Path, model: Path) -> None:
    nothing: Callable[[str, str], float] = lambda prompt, completion: 0.0  # noqa: E731
    summary = train(config(tmp_path / "run", model, steps=2, eval_tasks=0), experiment(nothing))
    assert "no group ever earned two different rewards" in summary["advice"]
    assert summary["ledger"] == "sampled 16 = trained 16 + waiting 0"
    assert "no group ever" in (tmp_path / "run" / "report.html").read_text()
    assert RunFolder(tmp_path / "run").metrics()[-1]["ledger/trained"] == 8


def test_rewards_by_term_and_their_spread_are_logged(tmp_path: Path) -> None:
    def terms(prompt: str, completion: str) -> dict[str, float]:
        return {"odd": float(len(completion) % 2), "one": 1.0}

    _, episodes, metrics = stepped(tmp_path, experiment(terms))
    assert metrics["reward/one"] == 1.0
    assert metrics["reward/odd"] + 1.0 == pytest.approx(metrics["reward"])
    totals = np.reshape([episode.total for episode in episodes], (2, 4))
    assert metrics["reward_std"] == pytest.approx(totals.std(axis=1).mean())


def test_cut_actions_are_columns() -> None:
    episode = branching([1.0, 0.0])
    episode.tree[episode.actions[1]].stop = "context"
    from sojourn.core import EpisodeGroup

    table = columns([EpisodeGroup("g", episode.task, episode.tree, [episode])])
    assert table.cut_S is not None and table.cut_S.tolist() == [False, True]
