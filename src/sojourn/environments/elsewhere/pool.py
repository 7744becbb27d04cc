"""The pool: workers of one world, started when they are needed, used again, ended when they are old or do not answer.

As many live as episodes are in flight (`concurrency` bounds them); who is idle waits for the next episode.  A worker that died while idle
is not handed out.  Episodes on different threads may share a pool.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from sojourn.core import Range, check
from sojourn.environments.elsewhere.process import Worker

T = TypeVar("T")
Seconds = Annotated[float, Range(0, above=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadlines:
    """Seconds that a worker may take; then it is ended and the episode has no valid result.  Raise one for a world that is slow."""

    start: Seconds = 60.0
    """From the start of its process until the world is made."""
    reset: Seconds = 60.0
    """To begin an episode."""
    step: Seconds = 60.0
    """For an action, and for a question: legal actions, a snapshot."""
    close: Seconds = 10.0
    """To give back what an episode held."""

    def __post_init__(self) -> None:
        check(self)


DEADLINES = Deadlines()


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """How workers make their world: `maker` ("module:function") of `arguments`, in processes of `python`.

    folders: where to look for the module, too.
    """

    maker: str
    arguments: Sequence[Any] = ()
    python: str = sys.executable
    folders: Sequence[str] = ()


class Pool:
    """Workers of one world.  episodes: so many a worker, then a fresh one takes its place; fewer where a world leaks."""

    def __init__(self, made: Made, deadlines: Deadlines = DEADLINES, *, episodes: int = 1000) -> None:
        self.made, self.deadlines = made, deadlines
        self.counts: Counter[str] = Counter()
        """Workers that were started, retired (old) and lost (dead, hung, or in doubt)."""
        self.all: set[Worker] = set()
        """Those that may live."""
        self._episodes = episodes
        self._idle: list[Worker] = []
        self._lock = threading.Lock()

    async def take(self) -> Worker:
        """A worker whose world is made and not in use.  Raises what its start raised."""
        while self._idle:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is not None and worker.usable:
                return worker
            if worker is not None:
                self._drop(worker, "lost")
        return (await self.start())[0]

    async def start(self) -> tuple[Worker, dict[str, Any]]:
        """A fresh worker, and what it says of its world."""
        worker = await asyncio.to_thread(Worker, self.made.python)  # a loaded machine takes its time to start a process
        with self._lock:
            self.all.add(worker)
            self.counts["started"] += 1
        made = self.made
        try:
            reply = await worker.ask("make", made.maker, made.arguments, made.folders, within=self.deadlines.start)
        except BaseException:
            self._drop(worker, "lost")
            raise
        return worker, reply["gave"]

    def give(self, worker: Worker) -> None:
        """Back from an episode."""
        worker.episodes += 1
        if not worker.usable:
            self._drop(worker, "lost")
        elif worker.episodes >= self._episodes:
            self._drop(worker, "retired")
        else:
            worker.rest()
            with self._lock:
                self._idle.append(worker)

    def lose(self, worker: Worker) -> None:
        """End a worker whose episode was given up."""
        self._drop(worker, "lost")

    def close(self) -> None:
        """End all workers.  The next episode starts new ones."""
        for worker in list(self.all):
            self._drop(worker, "retired")
        self._idle.clear()

    def _drop(self, worker: Worker, why: str) -> None:
        worker.kill()
        with self._lock:
            if worker in self.all:
                self.all.remove(worker)
                self.counts[why] += 1


def now(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait for `work` here, whether or not an event loop runs on this thread: task sources are asked without `await`."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
