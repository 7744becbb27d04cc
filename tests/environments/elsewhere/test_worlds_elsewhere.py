"""A world in a worker is the world: what it says, pays and can do is what it does here, whatever value crosses the pipe."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import elsewhere_stub
import pytest
from stub_workers import stub

from sojourn.core import Action, LegalActions, Oracle, Restorable, StateKey, Task
from sojourn.core.handover import settled
from sojourn.environments import World, check_environment, find, from_elsewhere
from sojourn.environments.check import ABILITIES
from sojourn.environments.elsewhere.worker import Host
from sojourn.environments.small.blocks import Blocks


async def walk(world: World, task: Task, actions: list[str]) -> list[Any]:
    """All that a world says on the way, of what it can say."""
    one = world.make()
    said: list[Any] = [await one.reset(task, seed=3), one.tools]
    for text in actions:
        if isinstance(one, StateKey):
            said.append(await settled(one.state_key()))
        if isinstance(one, LegalActions):
            said.append(list(await settled(one.legal_actions())))
        if isinstance(one, Oracle):
            said.append(await settled(one.oracle()))
        kept = await settled(one.snapshot()) if isinstance(one, Restorable) else None
        said.append(await one.step(Action(text, answer=text)))
        if isinstance(one, Restorable):
            await settled(one.restore(kept))
            said.append(await one.step(Action(text, answer=text)))
    said.append(await one.truncate())
    await one.close()
    return said


def test_blocks_elsewhere_say_and_pay_what_they_do_here() -> None:
    here, there = find("small/blocks"), from_elsewhere("sojourn.environments.listing:find", "small/blocks")
    assert there.tasks.levels == here.tasks.levels
    for split, level, index in (("train", "3", 0), ("test", "5", 7)):
        task = here.tasks.task(split, level, index)
        assert there.tasks.task(split, level, index) == task
        legal = asyncio.run(plan_of(task))
        actions = [*legal[:2], "fly", *legal[2:]]
        assert asyncio.run(walk(there, task, actions)) == asyncio.run(walk(here, task, actions))
    there.make.pool.close()


async def plan_of(task: Task) -> list[str]:
    world, said = Blocks(), []
    await world.reset(task, seed=0)
    for _ in range(4):
        action = world.oracle()
        said.append(action.text)
        await world.step(action)
    return said


@pytest.mark.parametrize("name", ["counter", "able"])
def test_a_proxy_has_exactly_the_abilities_of_its_world(name: str) -> None:
    here = getattr(elsewhere_stub, name)()
    with stub(name) as there:
        one = there.make()
        for ability in ABILITIES:
            assert isinstance(one, ability) == isinstance(here.make(), ability), ability
        assert type(one).__name__ == type(here.make()).__name__


def test_the_checker_passes_a_world_elsewhere() -> None:
    with stub("able") as world:
        lines = check_environment(world, count=1)
    assert "abilities: Oracle, Restorable, StateKey" in lines


def test_equal_states_have_equal_keys_in_different_workers_and_others_have_not() -> None:
    async def keys() -> list[object]:
        with stub("able") as world:
            first, second = world.make(), world.make()
            task = world.tasks.task("train", "default", 0)
            found = []
            for one in (first, second):
                await one.reset(task, seed=0)
                found.append(await one.state_key())
            assert len(world.make.pool.all) == 2
            await second.step(Action("more"))
            return [*found, await second.state_key()]

    one, same, other = asyncio.run(keys())
    assert one == same != other
    assert hash(one) == hash(same)


def test_tools_that_a_world_knows_after_its_reset_are_those_of_the_proxy() -> None:
    async def names() -> list[str]:
        with stub("counter") as world:
            one = world.make()
            assert list(one.tools) == []
            await one.reset(Task("t", {"goal": 7}), seed=0)
            return [tool.name for tool in one.tools]

    assert asyncio.run(names()) == ["more7"]


def test_what_a_world_prints_and_large_answers_do_not_disturb_the_pipe() -> None:
    async def said() -> list[str]:
        with stub("counter") as world:
            one = world.make()
            await one.reset(Task("t", {"goal": 7}), seed=0)
            answers = [await one.step(Action(text)) for text in ("print", "big", "more")]
            return [answer.observation.messages[0].text for answer in answers]

    assert asyncio.run(said()) == ["1 of 7", "x" * 1_000_000, "2 of 7"]


def test_questions_of_several_branches_at_once_are_answered_each() -> None:
    async def ask() -> list[object]:
        with stub("able") as world:
            one = world.make()
            await one.reset(Task("t", {"goal": 50}), seed=0)
            keys = await asyncio.gather(*(one.state_key() for _ in range(20)))
            steps = await asyncio.gather(*(one.step(Action("more")) for _ in range(20)))
            assert sorted(int(step.observation.messages[0].text.split()[0]) for step in steps) == list(range(1, 21))
            return keys

    assert len(set(map(str, asyncio.run(ask())))) == 1


def test_a_worker_imports_neither_torch_nor_what_its_world_does_not_need() -> None:
    async def modules() -> set[str]:
        with stub("counter") as world:
            one = world.make()
            await one.reset(Task("t", {"goal": 7}), seed=0)
            return set((await one.step(Action("modules"))).info["modules"])

    found = asyncio.run(modules())
    assert not found & {
        "torch",
        "transformers",
        "pydantic",
        "docstring_parser",
        "jinja2",
        "duckdb",
        "pyarrow",
        "tyro",
        "gymnasium",
    }
    assert {name.split(".")[1] for name in found if name.startswith("sojourn.")} <= {"core", "environments"}


def test_a_snapshot_that_nobody_holds_is_forgotten_in_the_worker() -> None:
    async def kept() -> int:
        with stub("able") as world:
            one = world.make()
            await one.reset(Task("t", {"goal": 7}), seed=0)
            first, second = await one.snapshot(), await one.snapshot()
            del first
            gc.collect()
            await one.step(Action("more"))
            await one.restore(second)
            return len(one._dropped)

    assert asyncio.run(kept()) == 0

    async def numbers() -> set[int]:
        host = Host()
        host._playing = elsewhere_stub.StubAble()
        await host._playing.reset(Task("t", {"goal": 7}), seed=0)
        for _ in range(3):
            await host.answer({"do": "snapshot", "with": (), "named": {}, "drop": ()})
        await host.answer({"do": "state_key", "with": (), "named": {}, "drop": (0, 2)})
        return set(host._kept)

    assert asyncio.run(numbers()) == {1}


def test_a_snapshot_of_another_episode_is_refused() -> None:
    async def mixed() -> None:
        with stub("able") as world:
            one, other = world.make(), world.make()
            for each in (one, other):
                await each.reset(Task("t", {"goal": 7}), seed=0)
            await other.restore(await one.snapshot())

    with pytest.raises(ValueError, match="its own snapshots of this episode"):
        asyncio.run(mixed())


def test_task_data_that_would_be_changed_on_the_way_are_refused() -> None:
    with stub("unwritable") as world, pytest.raises(ValueError, match="'odd' holds data that JSON text does not keep"):
        world.tasks.task("train", "default", 0)


def test_a_source_that_counts_its_tasks_does_so_elsewhere() -> None:
    here = elsewhere_stub.counter().tasks
    with stub("counter") as world:
        assert world.tasks.count("train", "default") == here.count("train", "default") == 10


def test_a_world_of_several_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="StubTwo: only worlds with one agent"), stub("two"):
        pass
