"""The worker: one process that plays the episodes of a world, one at a time, for whoever started it.

The one idea: it holds the world and answers questions about it; what cannot be written down stays here.  A snapshot stays and goes by
number, until the other side says that nobody holds it any more.  A state key that is no plain value goes as its content, so that keys of
different workers are equal when their states are.

    {"do": "reset", "with": [task], "named": {"seed": 7}, "drop": []}   ->  {"gave": <Observation>}
    {"do": "oracle", "with": [], "named": {}, "drop": [3]}              ->  {"raised": "LookupError", "text": ..., "trace": ...}

It imports `core` and the world's own module.  It ends when its parent does.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Hashable, Sequence
from importlib import import_module
from itertools import count
from typing import Any

from sojourn.core import Countable, Environment, LegalActions, Oracle, Restorable, StateKey, Task, broke_beneath, content
from sojourn.core.handover import settled
from sojourn.core.values import from_json, is_exact_key, to_json
from sojourn.environments.elsewhere.channel import Channel
from sojourn.environments.world import World

ABILITIES = (Restorable, LegalActions, StateKey, Oracle)
KINDS = (LookupError, ValueError, ImportError, NotImplementedError)
"""Errors that come out on the other side as they are; of any other the text and the traceback do."""
BENEATH = "InfrastructureError"


class Host:
    """Answers what is asked of one world."""

    def __init__(self) -> None:
        self._world: World | None = None
        self._playing: Any = None
        self._kept: dict[int, object] = {}
        self._numbers = count()
        self._told: Sequence[object] = ()

    async def answer(self, asked: Any) -> dict[str, object]:
        """The reply to one message; what is raised is a reply, too."""
        for number in asked["drop"]:
            self._kept.pop(number, None)
        try:
            gave = await getattr(self, f"do_{asked['do']}", self._play(asked["do"]))(*asked["with"], **asked["named"])
        except Exception as error:
            return _raised(error)
        return {"gave": gave, **self._new_tools()}

    async def do_make(self, maker: str, arguments: Sequence[Any], folders: Sequence[str]) -> dict[str, object]:
        """Make the world; what it is and what it can do."""
        sys.path[:0] = [folder for folder in folders if folder not in sys.path]
        module, _, name = maker.partition(":")
        self._world = getattr(import_module(module), name)(*arguments)
        tried = self._world.make()
        if not isinstance(tried, Environment):
            raise ValueError(f"{maker} makes a {type(tried).__name__}: only worlds with one agent can be elsewhere")
        self._told = tuple(tried.tools)
        await tried.close()
        tasks = self._world.tasks
        return {
            "name": type(tried).__name__,
            "abilities": [ability.__name__ for ability in ABILITIES if isinstance(tried, ability)],
            "tools": self._told,
            "levels": list(tasks.levels),
            "countable": isinstance(tasks, Countable),
        }

    async def do_task(self, split: Any, level: str, index: int) -> Task:
        assert self._world is not None
        task = self._world.tasks.task(split, level, index)
        if isinstance(task, Task) and content(from_json(to_json(task))) != content(task):
            raise ValueError(
                f"task '{task.id}' holds data that JSON text does not keep: give numbers, texts, lists, tuples, dicts and arrays of numbers"
            )
        return task

    async def do_count(self, split: Any, level: str) -> int | None:
        assert self._world is not None and isinstance(self._world.tasks, Countable)
        return self._world.tasks.count(split, level)

    async def do_reset(self, task: Task, seed: int) -> object:
        assert self._world is not None
        self._playing = self._playing or self._world.make()
        return await settled(self._playing.reset(task, seed=seed))

    async def do_snapshot(self) -> int:
        number = next(self._numbers)
        self._kept[number] = await settled(self._playing.snapshot())
        return number

    async def do_restore(self, number: int) -> None:
        await settled(self._playing.restore(self._kept[number]))

    async def do_state_key(self) -> Hashable:
        key: Hashable = await settled(self._playing.state_key())
        return key if is_exact_key(key) else content(Task("", {"key": key}))

    async def do_close(self) -> None:
        playing, self._playing, self._kept = self._playing, None, {}
        if playing is not None:
            await settled(playing.close())

    def _play(self, method: str) -> Any:
        async def ask(*arguments: Any, **named: Any) -> object:
            return await settled(getattr(self._playing, method)(*arguments, **named))

        return ask

    def _new_tools(self) -> dict[str, object]:
        """A world may know its tools after a reset only."""
        tools = tuple(self._playing.tools) if self._playing is not None else self._told
        if tools == self._told:
            return {}
        self._told = tools
        return {"tools": tools}


def _raised(error: Exception) -> dict[str, object]:
    kind = next((each.__name__ for each in KINDS if isinstance(error, each)), "RuntimeError")
    text = str(error) if kind != "RuntimeError" else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return {"raised": BENEATH if broke_beneath(error) else kind, "text": text, "trace": trace}


async def serve(end: socket.socket) -> None:
    """Answer until the other side is gone."""
    channel, host = Channel(end), Host()
    while (asked := await channel.receive()) is not None:
        await channel.send(await host.answer(asked))


def end_with(end: socket.socket) -> None:
    """End this process and what it has started when the other side goes away, even in the middle of a step.

    PR_SET_PDEATHSIG would not do: it strikes when the thread that started us ends, and it leaves our own children behind.
    """
    poll = select.poll()
    poll.register(end, 0)  # a hang-up is told always
    poll.poll()
    os.killpg(0, signal.SIGKILL)


def main(descriptor: int) -> None:
    end = socket.socket(fileno=descriptor)
    threading.Thread(target=end_with, args=(end,), daemon=True).start()
    asyncio.run(serve(end))
