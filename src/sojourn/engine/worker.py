"""The thread that models compute in, so that the event loop serves tools and other waits meanwhile.

One thread for all engines of a process: models share torch's threads, so two at once would be slower than one after the other.  Only
forward passes run there; who joins the next pass is decided between passes, after the event loop has come to rest (`at_rest`), and by one
engine at a time (`turn`).  So everything that needs no waiting (parsing, a world in plain Python, the next prompt, for another engine too) is
in time for the next pass, always, and what shares a pass does not depend on which thread was faster.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

T = TypeVar("T")

TURNS = 200
"""Turns of the event loop to wait at most until it rests: a program that asks again and again must not stop the engine."""
BLIND_TURNS = 16
"""Turns of an event loop that does not say whether it rests."""

NAME = "sojourn-engine"

_thread = ThreadPoolExecutor(1, thread_name_prefix=NAME)  # it starts at first use, and ends with the process
_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def turn() -> asyncio.Lock:
    """Held by whoever looks at the event loop, computes, and hands out the answers; engines take turns in the order of asking."""
    return _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def submit(work: Callable[[], T]) -> Future[T]:
    """Let the thread do `work`."""
    return _thread.submit(_with_threads, torch.get_num_threads(), work)


def _with_threads(count: int, work: Callable[[], T]) -> T:
    """`work` with as many threads as whoever asked for it has: OpenMP keeps this number for each thread."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return work()


def compute(work: Callable[[], T]) -> T:
    """Let the thread do `work`, and wait here; what already runs in the thread goes on in it.

    Whatever computes with torch in a process that samples should go through here.  OpenMP keeps a pool of threads for every thread that has
    ever computed, and with more of them than cores it lets them sleep between operations: small models then pay a wake-up for each.
    """
    if threading.current_thread().name.startswith(NAME):
        return work()
    return submit(work).result()


async def ended(job: Future[T], seconds: float) -> bool:
    """Wait so long for `job`, which goes on if that is not enough; returns whether it has ended."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[bool] = loop.create_future()

    def tell(has_ended: bool) -> None:
        if not told.done():
            told.set_result(has_ended)

    def hear(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, True)

    job.add_done_callback(hear)
    alarm = loop.call_later(seconds, tell, False)
    try:
        return await told
    finally:
        alarm.cancel()


async def at_rest() -> None:
    """Wait until nothing is left that the event loop could do at once: all that goes on waits for a timer, a tool or the engine."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)  # asyncio has no public name for it; other loops may not have it
    for _ in range(BLIND_TURNS if ready is None else TURNS):
        await asyncio.sleep(0)
        if ready is not None and not ready:
            return
