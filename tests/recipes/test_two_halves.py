"""MAGRPO's halves: what a joint action is paid, by hand; that both adapters learn, and that a stranger takes the helper's seat."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small

from sojourn.cli.recipe import load
from sojourn.core import Action, Episode, EpisodeGroup, Kind, Span, StopReason, Task, TrajectoryTree, total
from sojourn.credit import columns
from sojourn.objectives.presets import preset
from sojourn.store import RunFolder
from sojourn.training import Trainer, train
from sojourn.training.seats import views

RECIPE = Path(__file__).parents[2] / "recipes/multi_agent/two_halves.py"
AUX, MAIN = "def aux(x): return ", "def main(x): return "


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load(str(RECIPE))


@pytest.fixture
def halves(recipe: Any) -> ModuleType:
    return sys.modules["halves"]


@pytest.mark.parametrize(
    ("aux", "main", "reward"),
    [
        (AUX + "3*x", MAIN + "aux(x) + x%4", 4.0),  # 0.4 + 0.6 + 0.5 + 1 + 0.5 + 1
        (AUX + "x%4", MAIN + "3*x + aux(x)", 4.0),
        (AUX + "3*x", MAIN + "x%4 + 3*x", 2.5),  # does without the helper
        (AUX + "x%4", MAIN + "aux(x) + x%4", 1.5),  # both took one term
        (AUX + "3*x + x%4", MAIN + "aux(x)", 3.0),  # a wrapper adds nothing
        (AUX + "x%0", MAIN + "aux(x) + x%4", 1.5),  # every test fails
        ("def aux(x): retrun x", MAIN + "x%4 + 3*x", 1.0),  # does not parse
        ("", MAIN + "x%4 + 3*x", 0.6),
        (AUX + "3*x", "main = 3", 0.4),
        (AUX + "aux(x)", MAIN + "aux(x) + x%4", 1.0),  # a helper that calls itself is never run
        (AUX + "2**999999999", MAIN + "aux(x)", 1.0),
        (AUX + "x", MAIN + "__import__('os')", 1.0),
    ],
)
def test_a_joint_action_is_paid_as_in_the_paper(halves: Any, aux: str, main: str, reward: float) -> None:
    assert total(halves.joint(aux, main, "x%4 + 3*x")) == pytest.approx(reward)


def test_some_tests_are_paid_as_a_share(halves: Any) -> None:
    """Of 17, 23, 38, 59, 94 only 38 has a remainder of 2 by 9: 1/5 of the tests."""
    assert halves.joint(AUX + "3*x", MAIN + "aux(x) + 2", "x%9 + 3*x")["tests"] == pytest.approx(1 / 5)


def test_the_control_pays_a_half_for_itself(halves: Any) -> None:
    """Each is right, together they are wrong."""
    paid = halves.own(AUX + "x%4", MAIN + "aux(x) + x%4", "x%4 + 3*x")
    assert {agent: total(terms) for agent, terms in paid.items()} == {"helper": 4.0, "main": 4.0}
    assert total(halves.own(AUX + "7*x", MAIN + "aux(x) + x%4", "x%4 + 3*x")["helper"]) == 1.5


def test_no_sum_is_in_both_splits_in_any_order(halves: Any) -> None:
    tasks = halves.sums()
    pairs = {
        split: {frozenset(tasks.task(split, "default", n).data["sum"].split(" + ")) for n in range(tasks.count(split, "default"))}
        for split in ("train", "test")
    }
    assert len(pairs["test"]) == 240 and not pairs["train"] & pairs["test"]


def test_advantages_of_a_joint_action_are_the_same_for_both_and_centred(halves: Any) -> None:
    """Joint rewards 4, 4, 2.5, 1.5: less their mean of 3."""
    world, tree, task = halves.Halves(), TrajectoryTree(), Task("t", {"sum": "x%4 + 3*x"})
    group = EpisodeGroup("g", task, tree)
    prompts = {agent: tree.add(Span(-1, np.arange(3), Kind.OBSERVATION, agent=agent)) for agent in world.agents}
    said = [("3*x", "aux(x) + x%4"), ("x%4", "aux(x) + 3*x"), ("x", "x%4 + 3*x"), ("x%4", "aux(x) + x%4")]
    for number, (aux, main) in enumerate(said):
        asyncio.run(world.reset(task, seed=0))
        told = asyncio.run(world.step({"helper": Action(AUX + aux), "main": Action(MAIN + main)}))
        episode = Episode(f"g/{number}", task, tree, stop=StopReason.TERMINATED)
        for agent in world.agents:
            span = Span(
                prompts[agent],
                np.arange(2) + number,
                Kind.ACTION,
                np.zeros(2, np.float32),
                agent=agent,
                reward=told.rewards[agent],
            )
            episode.actions.append(tree.add(span))
        group.episodes.append(episode)
    for agent in world.agents:
        table = columns(views([group], [agent]))
        advantage = preset("magrpo").credit(table)[table.start_S[:-1]]
        np.testing.assert_allclose(advantage, [1.0, 1.0, -0.5, -1.5])


def test_both_adapters_learn_and_an_untrained_partner_does_not(recipe: Any, tmp_path: Path) -> None:
    moved = {}
    for partner in ("trained", "untrained"):
        config = recipe.config(run=str(tmp_path), partner=partner, groups=2, group_size=4, max_tokens=6)
        run = Trainer(config, recipe.experiment(config), small())
        players = {name: run.players[name] for name in ("main", "helper")}
        before = {name: {k: v.clone() for k, v in player.weights().items()} for name, player in players.items()}
        paid = iter([float(n % 3) for n in range(8)])
        world = run.experiment.environment

        def paying(world: Any = world, paid: Any = paid) -> Any:
            made, reward = world(), next(paid)
            step = made.step

            async def answered(actions: Any) -> Any:
                told = await step(actions)
                return type(told)(rewards={"helper": reward, "main": reward}, terminated=True, info=told.info)

            made.step = answered
            return made

        object.__setattr__(run.experiment, "environment", paying)
        asyncio.run(run.train_step())
        moved[partner] = {
            name: any(not torch.equal(tensor, before[name][key]) for key, tensor in player.weights().items())
            for name, player in players.items()
            if player.learning
        }
        assert players["main"].model is players["helper"].model and players["main"].engine is players["helper"].engine
    assert moved == {"trained": {"main": True, "helper": True}, "untrained": {"main": True}}


def test_a_stranger_writes_the_helper(recipe: Any, tmp_path: Path) -> None:
    config = recipe.config(run=str(tmp_path), groups=2, group_size=2, max_tokens=6)
    run = Trainer(config, recipe.experiment(config), small())
    for how, who in ((None, "helper"), (run.experiment.evaluations["stranger"], "untrained")):
        [group] = asyncio.run(run.evaluate(run.held_out(1), how))
        spoke = {group.tree[span].agent: group.tree[span].policy for span in group.episodes[0].actions}
        assert spoke == {"main": "main", "helper": who}


def test_figures_are_shares_of_the_joint_maximum_whatever_was_paid(recipe: Any, tmp_path: Path) -> None:
    config = recipe.config(
        run=str(tmp_path / "run"),
        model="tiny",
        pay="own",
        steps=1,
        groups=2,
        group_size=2,
        eval_tasks=3,
        max_tokens=4,
        checkpoint_every=0,
    )
    train(config, recipe.experiment(config))
    found = recipe.module.figures(RunFolder(tmp_path / "run"))
    assert {name: set(values.values()) for name, values in found.items()} == {
        f"share/{when}-{how}": {0.0} for when in ("before", "after") for how in ("sampled", "stranger")
    }
    assert all(len(values) == 3 for values in found.values())


def test_the_controls_ceiling_is_far_below_the_threshold(halves: Any) -> None:
    """Beside a helper that takes each term as often as the other, the best `main` gets 4 in half of its programs and 1.5 in the others, which
    is 69 % of the maximum, and more only where wrong sums pass tests by chance; without the helper it gets 2.5."""
    tasks, best = halves.sums(), []
    for number in range(60):
        wanted = tasks.task("test", "default", number).data["sum"]
        terms = wanted.split(" + ")
        mains = [*(MAIN + f"aux(x) + {term}" for term in terms), MAIN + wanted]
        best.append(max(sum(total(halves.joint(AUX + term, main, wanted)) for term in terms) / 8 for main in mains))
    assert min(best) == pytest.approx(0.6875)
    assert 0.6875 <= sum(best) / len(best) < 0.8
