"""BabyAI in words: sound, fulfilled by its bot, and no grid in both splits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sojourn.core import Action
from sojourn.environments import check_environment, find
from sojourn.environments.listing import MINIGRID
from sojourn.environments.world import World

pytestmark = pytest.mark.skipif(MINIGRID.state == "no", reason="sojourn envs install games/minigrid")


@pytest.fixture(scope="module")
def local() -> Iterator[World]:
    world = find("games/babyai/GoToLocal")
    yield world
    world.make.pool.close()  # type: ignore[attr-defined]


def test_the_checker_passes_and_the_bot_fulfils_all(local: World) -> None:
    lines = check_environment(local, count=3)
    assert "solved: 6 of 6 by the oracle" in lines
    assert "abilities: LegalActions, Oracle, Restorable, StateKey" in lines


def test_a_level_without_a_bot_is_sound() -> None:
    world = find("games/babyai/MiniGrid-Empty-5x5-v0")
    with pytest.raises(ValueError, match="too few different grids"):  # it is one grid: there is nothing to hold out
        [world.tasks.task(split, world.tasks.levels[0], 0) for split in ("train", "test")]  # type: ignore[arg-type]
    world.make.pool.close()  # type: ignore[attr-defined]
    assert check_environment(find("games/babyai/MiniGrid-DoorKey-5x5-v0"), count=1)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="no level 'GoToMars' of BabyAI"):
        find("games/babyai/GoToMars")


def test_what_is_no_action_moves_nothing(local: World) -> None:
    async def run() -> tuple[object, object, bool]:
        environment = local.make()
        await environment.reset(local.tasks.task("train", local.tasks.levels[0], 0), seed=0)
        before = await environment.state_key()  # type: ignore[attr-defined]
        made = await environment.step(Action("fly", answer="fly"))
        after = await environment.state_key()  # type: ignore[attr-defined]
        await environment.close()
        return before, after, bool(made.failures)

    before, after, failed = asyncio.run(run())
    assert before == after and failed
