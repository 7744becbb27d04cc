"""The proxy: an environment here that stands for one in a worker, with exactly its abilities.

The one idea: an ability is a method that is there (`isinstance`), so the class of the proxy is made of what the worker says its world can
do.  Its abilities are asynchronous, as `reset` and `step` are.  The worker is taken at `reset` and given back at `close`.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sojourn.core import Action, Environment, InfrastructureError, Observation, Split, Task, Transition
from sojourn.environments.elsewhere.pool import DEADLINES, Deadlines, Made, Pool, now
from sojourn.environments.elsewhere.process import Worker
from sojourn.environments.world import World


def from_elsewhere(
    maker: str,
    *arguments: Any,
    python: str | Path = sys.executable,
    folders: Sequence[str | Path] = (),
    deadlines: Deadlines = DEADLINES,
    episodes: int = 1000,
) -> World:
    """The world that `maker` ("module:function") makes of `arguments`, played in processes of `python`.

    arguments: values that JSON text can hold.  folders: where `maker` is looked for, too.  episodes: a worker plays so many, then a fresh
    one takes its place.  The world's tasks are drawn in a worker as well.  Raises what the maker raised; `InfrastructureError` if no
    worker starts; `ValueError` for a world with several agents.
    """
    made = Made(maker=maker, arguments=arguments, python=str(python), folders=[str(folder) for folder in folders])
    pool = Pool(made, deadlines, episodes=episodes)
    worker, said = now(pool.start)
    pool.give(worker)
    known = {method: _ABILITIES[method] for ability in said["abilities"] for method in _METHODS[ability]}
    world: type[Proxy] = type(said["name"], (Proxy,), {"__module__": __name__, "pool": pool, "tools": said["tools"], **known})
    tasks = CountedTasks if said["countable"] else ElsewhereTasks
    return World(world, tasks(pool, tuple(said["levels"])))


class Proxy(Environment):
    """One episode of a world in a worker.  Before `reset` and after `close` it holds none."""

    pool: ClassVar[Pool]

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._end: weakref.finalize[Any, Proxy] | None = None
        self._turn = asyncio.Lock()  # branches of a program may ask at once; a worker answers one
        self._dropped: list[int] = []

    async def reset(self, task: Task, *, seed: int) -> Observation:
        if self._worker is None:
            self._worker = await self.pool.take()
            self._end = weakref.finalize(self, self.pool.lose, self._worker)
        return await self._ask("reset", task, within=self.pool.deadlines.reset, seed=seed)  # type: ignore[no-any-return]

    async def step(self, action: Action) -> Transition:
        return await self._ask("step", action)  # type: ignore[no-any-return]

    async def truncate(self) -> Transition:
        return await self._ask("truncate")  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Give the worker back.  Nothing is raised for one whose death was told before."""
        worker, self._worker = self._worker, None
        if worker is None or self._end is None:
            return
        self._end.detach()
        try:
            if worker.usable:
                await worker.ask("close", within=self.pool.deadlines.close)
        except BaseException:
            worker.kill()
            raise
        finally:
            self.pool.give(worker)

    async def _ask(self, do: str, *arguments: object, within: float | None = None, **named: object) -> Any:
        async with self._turn:
            if self._worker is None:
                raise InfrastructureError(
                    f"{type(self).__name__} holds no worker: reset it before '{do}', and use it no more when closed"
                )
            dropped = [self._dropped.pop() for _ in range(len(self._dropped))]
            limit = self.pool.deadlines.step if within is None else within
            reply = await self._worker.ask(do, *arguments, within=limit, drop=dropped, **named)
        if "tools" in reply:
            self.tools = reply["tools"]
        return reply["gave"]


class Held:
    """A snapshot that is kept in a worker, by number; it is forgotten there when nobody holds this any more."""

    def __init__(self, number: int, dropped: list[int]) -> None:
        self.number, self.dropped = number, dropped
        weakref.finalize(self, dropped.append, number).atexit = False


async def snapshot(self: Proxy) -> object:
    return Held(await self._ask("snapshot"), self._dropped)


async def restore(self: Proxy, snapshot: object) -> None:
    if not isinstance(snapshot, Held) or snapshot.dropped is not self._dropped:
        raise ValueError(f"{type(self).__name__} runs in a worker: it goes back to its own snapshots of this episode only")
    await self._ask("restore", snapshot.number)


async def legal_actions(self: Proxy) -> Sequence[str]:
    return await self._ask("legal_actions")  # type: ignore[no-any-return]


async def state_key(self: Proxy) -> Hashable:
    return await self._ask("state_key")  # type: ignore[no-any-return]


async def oracle(self: Proxy) -> Action:
    return await self._ask("oracle")  # type: ignore[no-any-return]


_ABILITIES: dict[str, Any] = {each.__name__: each for each in (snapshot, restore, legal_actions, state_key, oracle)}
_METHODS = {
    "Restorable": ("snapshot", "restore"), "LegalActions": ("legal_actions",), "StateKey": ("state_key",), "Oracle": ("oracle",),
}  # fmt: skip


class ElsewhereTasks:
    """The world's tasks, drawn in a worker."""

    def __init__(self, pool: Pool, levels: Sequence[str]) -> None:
        self._pool, self.levels = pool, levels

    def task(self, split: Split, level: str, index: int) -> Task:
        return self._ask("task", split, level, index)  # type: ignore[no-any-return]

    def _ask(self, do: str, *arguments: object) -> Any:
        async def ask() -> Any:
            worker = await self._pool.take()
            try:
                return (await worker.ask(do, *arguments, within=self._pool.deadlines.step))["gave"]
            finally:
                self._pool.give(worker)

        return now(ask)


class CountedTasks(ElsewhereTasks):
    """Of a source that says how many it has."""

    def count(self, split: Split, level: str) -> int | None:
        return self._ask("count", split, level)  # type: ignore[no-any-return]
