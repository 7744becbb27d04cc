"""Gymnasium's environments in words: the library's own episode, step for step."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from one_group import played, trained

from sojourn.agents import markov
from sojourn.core import Action, FailureKind
from sojourn.credit import columns
from sojourn.environments import check_environment, find, from_gymnasium

gymnasium = pytest.importorskip("gymnasium")
WORLD = from_gymnasium("CartPole-v1", ("left", "right"), show=lambda state: " ".join(f"{x:.2f}" for x in state))


def test_an_episode_is_the_library_s_own() -> None:
    plain, task = gymnasium.make("CartPole-v1"), WORLD.tasks.task("train", "default", 3)
    state, _ = plain.reset(seed=task.data["seed"])

    async def play() -> None:
        ours = WORLD.make()
        observation = await ours.reset(task, seed=0)
        assert observation.messages[0].text == " ".join(f"{x:.2f}" for x in state)
        for turn in range(500):
            expected = plain.step(turn % 2)
            transition = await ours.step(Action(("left", "right")[turn % 2]))
            assert transition.observation.messages[0].text == " ".join(f"{x:.2f}" for x in expected[0])
            assert (transition.reward, transition.terminated, transition.truncated) == expected[1:4]
            if transition.terminated or transition.truncated:
                break
        await ours.close()

    asyncio.run(play())


def test_what_is_no_action_is_told_and_does_not_move_the_world() -> None:
    async def play() -> None:
        ours = WORLD.make()
        await ours.reset(WORLD.tasks.task("train", "default", 0), seed=0)
        transition = await ours.step(Action("up"))
        assert transition.observation.messages[0].text == "Say one of left, right."
        assert transition.failures[0].kind is FailureKind.MODEL
        assert not transition.terminated

    asyncio.run(play())


def test_an_episode_succeeds_at_the_environment_s_own_threshold() -> None:
    """FrozenLake without slipping: the goal pays 1, and the threshold is 0.7."""
    world = from_gymnasium("FrozenLake-v1", ("left", "down", "right", "up"), is_slippery=False)

    async def play() -> list[bool]:
        ours = world.make()
        await ours.reset(world.tasks.task("train", "default", 0), seed=0)
        steps = [await ours.step(Action(word)) for word in ("down", "down", "right", "right", "down", "right")]
        assert steps[-1].terminated
        return [step.info["success"] for step in steps]

    assert asyncio.run(play()) == [False] * 5 + [True]


def test_splits_never_share_a_seed_and_the_checker_is_content() -> None:
    seeds = {split: {WORLD.tasks.task(split, "default", i).data["seed"] for i in range(50)} for split in ("train", "test")}
    assert not seeds["train"] & seeds["test"]
    assert check_environment(find("gymnasium/FrozenLake-v1"))


def test_worlds_that_cannot_be_said_are_refused() -> None:
    with pytest.raises(ValueError, match="finite set of actions"):
        from_gymnasium("Pendulum-v1")
    with pytest.raises(ValueError, match="2 actions, 3 words"):
        from_gymnasium("CartPole-v1", ("left", "stay", "right"))


def test_a_markov_program_forgets_the_text_and_keeps_the_credit() -> None:
    """Every step is a context of its own, linked to the one before, so returns flow back through the episode."""
    run = played(WORLD.make, markov, size=2, task=WORLD.tasks.task("train", "default", 0))
    for episode in run.group.episodes:
        assert len({tuple(episode.tree.tokens(span)) for span in episode.actions}) > 1
        paths = {len(episode.tree.path(span)) for span in episode.actions}
        assert len(paths) == 1, "no context grows"
    table = columns([run.group])
    assert (table.turn_S[table.episode_S == 0] == np.arange((table.episode_S == 0).sum())).all()
    run.group.episodes[0].reward = {"r": 1.0}  # so that there is something to learn
    asyncio.run(trained(run))


def test_a_name_that_gymnasium_does_not_know_is_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="Gymnasium makes no 'Nope-v3': Environment `Nope` doesn't exist"):
        find("gymnasium/Nope-v3")
    with pytest.raises(ValueError, match=r"makes no 'CartPole-v1' of \{'size': 3\}"):
        from_gymnasium("CartPole-v1", size=3)


@pytest.mark.parametrize("words", [("go", "go "), ("go", " ")])
def test_words_that_cannot_be_told_apart_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="must differ, and none be empty"):
        from_gymnasium("CartPole-v1", words)


def test_space_around_a_word_does_not_matter() -> None:
    """A word with a space before it is one token in many vocabularies."""
    world = from_gymnasium("CartPole-v1", (" left", " right"))
    assert check_environment(world, count=1)

    async def play() -> bool:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", 0), seed=0)
        return bool((await environment.step(Action(" left"))).failures)

    assert not asyncio.run(play())
