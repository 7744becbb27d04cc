"""Trees of answers: where they branch, that all is played to the end, and that the first branch is what the policy does alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small
from one_group import Played, played
from small_run import config, experiment

from sojourn.agents import choose, markov, react
from sojourn.agents.branching import by_entropy, whole_tree
from sojourn.agents.search import Search
from sojourn.core import Action, Environment, Episode, LegalActions, Observation, Task, Transition
from sojourn.policy import Program
from sojourn.training import Experiment, Trainer


class Walk(Environment):
    """Three turns; each is paid by what was said, and the observation is the state."""

    at: tuple[str, ...] = ()

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("at start")

    async def step(self, action: Action) -> Transition:
        self.at = (*self.at, action.text)
        over = len(self.at) == 3
        paid = float(len(action.text) % 2) / 3
        return Transition(Observation.of(f"at {len(self.at)}"), paid, terminated=over, info={"success": action.text > "m"})

    def snapshot(self) -> object:
        return self.at

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, tuple)
        self.at = snapshot


class Lists(Walk):
    def legal_actions(self) -> Sequence[str]:
        return [f"{len(self.at)}{letter}" for letter in "abcd"]


def said(run: Played, branch: Sequence[int]) -> list[list[int]]:
    return [run.group.tree.tokens(span).tolist() for span in branch]


@pytest.mark.parametrize(("world", "program"), [(Walk, react), (Walk, markov), (Lists, choose), (Lists, markov)])
def test_the_first_branch_is_what_the_program_does_alone(world: type[Environment], program: Program) -> None:
    alone, tree = played(world, program), played(world, whole_tree(program, width=3, levels=2))
    for one, other in zip(alone.group.episodes, tree.group.episodes, strict=True):
        assert said(tree, other.branches[0]) == said(alone, one.branches[0])
        assert other.success is one.success
        assert len(other.branches) == 9 and all(len(branch) == 3 for branch in other.branches)
        assert len(other.actions) == 3 + 9 + 9
        assert other.returns[0] == pytest.approx(one.total)
        if world is Lists:
            assert isinstance(world(), LegalActions)
            words = [[m.text for s in branch if (m := other.tree[s].message)] for branch in other.branches]
            assert all([word[0] for word in each] == ["0", "1", "2"] for each in words)


def nll(episode: Episode, span: int, tokens: int) -> float:
    logprobs = episode.tree[span].logprobs
    assert logprobs is not None
    return -float(np.mean(logprobs[:tokens]))


def test_it_branches_where_the_entropy_has_risen() -> None:
    """0.5 + 0.2 (H - H_0) > 0.5: where the first tokens of the first answer are less likely than those of the first turn."""
    run = played(Walk, by_entropy(react, branches=99, tokens=3), seed=2)
    counts = set()
    for episode in run.group.episodes:
        followers: dict[int, list[int]] = {}
        for branch in episode.branches:
            for before, after in zip([-1, *branch], branch, strict=False):
                if after not in followers.setdefault(before, []):
                    followers[before].append(after)
        assert len(followers[-1]) == 1
        first = nll(episode, followers[-1][0], 3)
        for before, after in followers.items():
            if before >= 0:
                assert len(after) == (2 if nll(episode, min(after), 3) > first else 1)
                counts.add(len(after))
    assert counts == {1, 2}


@pytest.mark.parametrize(
    ("settings", "branches"), [({"base": 2.0, "branches": 3}, 3), ({"base": -99.0}, 1), ({"base": 99.0, "branches": 99}, 4)]
)
def test_there_are_no_more_branches_than_asked_for(settings: dict[str, Any], branches: int) -> None:
    for episode in played(Walk, by_entropy(react, **settings)).group.episodes:
        assert len(episode.branches) == branches


def walking(program: Program = react) -> Experiment:
    return replace(experiment(), environment=Walk, program=program)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("tree_rpo", 4, 4), ("tree_po", 4, 4), ("arpo", 1, 4), ("arpo_hard", 1, 4), ("grpo", 1, 1)]
)
def test_an_algorithm_that_compares_branches_is_played_with_them(name: str, least: int, most: int, tmp_path: Path) -> None:
    settings = config(tmp_path, tmp_path, algorithm=name, max_turns=3, max_context=300, groups=1)
    trainer = Trainer(settings, walking(), small())
    groups, metrics = asyncio.run(trainer.train_step())
    assert all(least <= len(episode.branches) <= most for group in groups for episode in group.episodes)
    assert np.isfinite(metrics["loss"]) and metrics["trained_tokens"] > 0
    played_alone = asyncio.run(trainer.evaluate(trainer.held_out(1)[:1]))
    assert [len(episode.branches) for group in played_alone for episode in group.episodes] == [1]


def test_an_algorithm_with_notes_reads_in_pieces_in_training_and_evaluation(tmp_path: Path) -> None:
    long = "A fact. " * 12
    parts = experiment(prompts=[f"{long}\n\nWhat?"])
    settings = config(tmp_path, tmp_path, algorithm="memagent", max_turns=3, max_context=190, groups=1)
    trainer = Trainer(settings, parts, small())
    groups, _ = asyncio.run(trainer.train_step())
    assert {len(episode.actions) for group in groups for episode in group.episodes} == {3}
    (group,) = asyncio.run(trainer.evaluate([parts.tasks.task("train", "default", 0)]))
    assert len(group.episodes[0].actions) == 3


async def own(session: Any) -> None:
    await react(session)


def test_a_program_of_the_recipe_is_trusted_to_branch_by_itself(tmp_path: Path) -> None:
    settings = config(tmp_path, tmp_path, algorithm="tree_rpo")
    assert Trainer(settings, walking(own), small()).program is own
    search = Trainer(settings, walking(), small()).program
    assert isinstance(search, Search)


def test_a_tree_in_a_world_that_cannot_go_back_is_refused(tmp_path: Path) -> None:
    class Forward(Environment):
        async def reset(self, task: Task, *, seed: int) -> Observation:
            return Observation.of("Go.")

        async def step(self, action: Action) -> Transition:
            return Transition(terminated=True)

    parts = replace(experiment(), environment=Forward)
    with pytest.raises(ValueError, match="Forward cannot go back to an earlier state, which a tree of actions does"):
        Trainer(config(tmp_path, tmp_path, algorithm="tree_rpo"), parts, small())


def test_a_program_that_is_not_known_does_not_branch() -> None:
    with pytest.raises(ValueError, match="own is not known to branch"):
        whole_tree(own)
