"""Workers die, hang and raise; an episode then has no valid result, and what the world did is told as the world did it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from stub_workers import TESTS, stub

from sojourn.core import Action, InfrastructureError, Task
from sojourn.environments.elsewhere import Deadlines, Proxy

TASK = Task("t", {"goal": 7})


NEVER_CLOSES = Task("t", {"goal": 99})


async def begun(world, task: Task = TASK) -> Proxy:
    one = world.make()
    await one.reset(task, seed=0)
    return one


async def played(world) -> str:
    """An episode of one step; what it saw."""
    one = await begun(world)
    said = (await one.step(Action("more"))).observation.messages[0].text
    await one.close()
    return said


def test_a_dead_worker_is_the_infrastructures_failure_and_says_how_it_died() -> None:
    async def die() -> None:
        with stub("counter") as world:
            one = await begun(world)
            try:
                await one.step(Action("die"))
            finally:
                await one.close()  # was told already: nothing more is raised
                assert world.make.pool.counts["lost"] == 1
                assert (await (await begun(world)).step(Action("more"))).observation.messages[0].text == "1 of 7"

    with pytest.raises(InfrastructureError, match=r"(?s)worker \d+ died during 'step' \(SIGKILL\).*these are my last words"):
        asyncio.run(die())


@pytest.mark.parametrize(("hangs", "within"), [("step", Deadlines(step=0.2)), ("close", Deadlines(close=0.2))])
def test_a_worker_that_gives_no_answer_is_ended(hangs: str, within: Deadlines) -> None:
    async def hang() -> None:
        with stub("counter", deadlines=within) as world:
            one = await begun(world, NEVER_CLOSES)
            pid = next(iter(world.make.pool.all)).pid
            try:
                await (one.step(Action("hang")) if hangs == "step" else one.close())
            finally:
                assert ends(pid)
                assert not world.make.pool.all or hangs == "step"

    with pytest.raises(InfrastructureError, match=f"gave no answer to '{hangs}' in"):
        asyncio.run(hang())


def test_a_cancelled_step_ends_its_worker_for_nobody_knows_what_it_would_say_next() -> None:
    async def cancel() -> None:
        with stub("counter") as world:
            one = await begun(world)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.step(Action("hang")), 0.1)
            await one.close()
            assert world.make.pool.counts == {"started": 1, "lost": 1}

    asyncio.run(cancel())


@pytest.mark.parametrize(("action", "kind"), [("bug", RuntimeError), ("refused", InfrastructureError)])
def test_what_a_world_raises_keeps_its_class_and_its_traceback(action: str, kind: type[Exception]) -> None:
    async def raising() -> None:
        with stub("counter") as world:
            one = await begun(world)
            await one.step(Action(action))

    with pytest.raises(kind) as caught:
        asyncio.run(raising())
    assert type(caught.value) is kind
    assert "elsewhere_stub.py" in "".join(traceback.format_exception(caught.value))


def test_an_oracle_that_knows_nothing_says_so_and_the_episode_goes_on() -> None:
    async def ask() -> str:
        with stub("counter") as world:
            one = await begun(world)
            for _ in range(2):
                await one.step(await one.oracle())
            with pytest.raises(LookupError, match="I have forgotten"):
                await one.oracle()
            return (await one.step(Action("more"))).observation.messages[0].text

    assert asyncio.run(ask()) == "3 of 7"


def test_a_missing_package_and_a_broken_machine_are_told_when_the_world_is_made() -> None:
    with pytest.raises(ImportError, match="no_such_package"), stub("wants_a_package"):
        pass
    with pytest.raises(InfrastructureError, match="no display"), stub("broken"):
        pass
    with pytest.raises(InfrastructureError, match="no worker could be started"), stub("counter", python="/nowhere/python"):
        pass


def test_workers_are_used_again_and_retired_when_they_are_old() -> None:
    with stub("counter", episodes=3) as world:
        for _ in range(4):
            asyncio.run(played(world))  # making the world was the first use of the first worker
        assert world.make.pool.counts == {"started": 2, "retired": 1}


def test_a_worker_serves_episodes_on_different_event_loops() -> None:
    with stub("counter") as world:
        assert [asyncio.run(played(world)) for _ in range(3)] == ["1 of 7"] * 3
        assert world.make.pool.counts == {"started": 1}


def test_an_idle_worker_that_died_is_not_handed_out() -> None:
    with stub("counter") as world:
        (worker,) = world.make.pool.all
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # all of its threads, where `ends` asks for its first
        asyncio.run(played(world))
        assert world.make.pool.counts == {"started": 2, "lost": 1}


def test_an_episode_that_was_never_closed_leaves_no_worker() -> None:
    async def leave(world) -> int:
        await begun(world)  # and forget it
        return 0

    with stub("counter") as world:
        asyncio.run(leave(world))
        assert not world.make.pool.all


PARENT = """
import asyncio, sys
from sojourn.core import Action, Task
from sojourn.environments import from_elsewhere

async def main():
    world = from_elsewhere("elsewhere_stub:counter", folders=[sys.argv[1]])
    idle, busy = world.make(), world.make()
    for one in (idle, busy):
        await one.reset(Task("t", {"goal": 7}), seed=0)
    print(*(worker.pid for worker in world.make.pool.all), flush=True)
    await busy.step(Action("hang"))

asyncio.run(main())
"""


def test_workers_end_with_their_parent_even_in_the_middle_of_a_step() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(sys.modules["sojourn"].__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(TESTS)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(ends(pid) for pid in workers)


def ends(pid: int) -> bool:
    """Whether a process ends; one that is not waited for is a zombie, which runs no more."""
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False
