"""MiniWoB++ in a real browser: sound, solved by its scripts, and no wrong action ends the browser."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from sojourn.core import Action, Task, Transition, handover
from sojourn.environments import check_environment, find
from sojourn.environments.listing import MINIWOB
from sojourn.environments.world import World

pytestmark = pytest.mark.skipif(
    MINIWOB.state == "no" or shutil.which("chromium") is None, reason="sojourn envs install web/miniwob, apt-get install chromium"
)


@pytest.fixture(scope="module")
def login() -> Iterator[World]:
    world = find("web/miniwob/login-user")
    yield world
    world.make.pool.close()  # type: ignore[attr-defined]


def test_the_checker_passes_and_the_script_solves_all(login: World) -> None:
    assert "solved: 4 of 4 by the oracle" in check_environment(login, count=2)


def played(world: World, task: Task, *texts: str) -> list[Transition]:
    async def run() -> list[Transition]:
        environment = world.make()
        await environment.reset(task, seed=0)
        made = [await environment.step(Action(text, answer=text)) for text in texts]
        await environment.close()
        return made

    return asyncio.run(run())


def test_a_wrong_password_is_paid_minus_one_and_a_right_one_one(login: World) -> None:
    task = login.tasks.task("train", "login-user", 0)
    asked = asyncio.run(first(login, task))
    name, word = asked.split('"')[1::2][:2]
    assert played(login, task, f"type 1 {name}", f"type 3 {word}", "click 4")[-1].reward == {"raw": 1.0}
    assert played(login, task, f"type 1 {name}", f"type 3 {word}x", "click 4")[-1].reward == {"raw": -1.0}


async def first(world: World, task: Task) -> str:
    environment = world.make()
    seen = await handover.settled(environment.reset(task, seed=0))
    await environment.close()
    return seen.messages[0].text.splitlines()[0]


@pytest.mark.parametrize(
    "nonsense",
    ["", "click", "click 99", "click x", "type 0 x", "select 1 y", "press Nothing", "click_at a b", "javascript:alert(1)"],
)
def test_what_names_nothing_is_told_and_costs_a_turn(login: World, nonsense: str) -> None:
    (last,) = played(login, login.tasks.task("train", "login-user", 0), nonsense)
    assert not last.terminated and last.reward == 0.0
    assert last.failures and last.observation.messages[0].text


def test_the_clock_does_not_pay(login: World) -> None:
    """The page's own reward falls with the time since the start; what is paid does not."""
    asked = asyncio.run(first(login, login.tasks.task("train", "login-user", 1)))
    name, word = asked.split('"')[1::2][:2]
    turns = [f"type 1 {name}", f"type 3 {word}", *(["press Tab"] * 12), "click 4"]
    assert played(login, login.tasks.task("train", "login-user", 1), *turns)[-1].reward == {"raw": 1.0}
