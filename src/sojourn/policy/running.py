"""How the code of users is run: worlds, rewards, tools.

The one idea: a deadline measures the work that it is for, and nobody's work holds up the others.  Quick code runs on the event loop,
which costs nothing.  Code that is seen to hold the loop gets, from the next episode on, a thread with an event loop of its own, one for
each episode, so that what is bound to its thread (a database, a browser) stays on it.

    first episode           [step holds the loop for 0.5 s] -> past its deadline of 0.2 s: the infrastructure's failure, seen at once after
    later ones              [thread: step .............. ]  -> the loop goes on, and the deadline strikes after 0.2 s
    never comes back        a watchdog names episode, method and line, and interrupts the run
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sojourn.core import InfrastructureError
from sojourn.phases import phase

HELD_S = 0.05
"""Code that holds the event loop for longer gets a thread of its own."""
LATE_S = 0.005
"""A deadline that strikes later than this was held up by others, and is put off by as long."""


@dataclass
class UserCode:
    """What a run knows of its user's code.  One for all rollouts of a run."""

    max_errors: int = 0
    """Episodes that may fail through errors of their own before the run stops."""
    errors: int = 0
    """How many did."""
    holds: bool = False
    """Whether the world holds the event loop: it missed a deadline there, or did so in a tenth of its calls and three at least."""
    calls: int = 0
    slow: int = 0
    """Stretches of its work that held the loop for longer than `HELD_S`."""

    def note(self, seconds: float, deadline: float) -> bool:
        """Count a stretch of work; returns whether it is the one by which the world is known to hold the loop."""
        self.calls += 1
        self.slow += seconds > HELD_S
        known, self.holds = self.holds, self.holds or seconds > deadline or (self.slow >= 3 and 10 * self.slow >= self.calls)
        return self.holds and not known


class Runner:
    """Runs the code of one episode.  `where` names it in errors."""

    def __init__(self, code: UserCode, where: str) -> None:
        self._code, self._where = code, where
        self._loop = _own_loop(where) if code.holds else None
        self._hung: str | None = None

    async def call(self, function: Callable[..., Any], *arguments: Any, seconds: float, **named: Any) -> Any:
        """What `function` gives, awaited if need be.  Raises `InfrastructureError` if that takes longer than `seconds`."""
        work = _invoke(function, arguments, named)
        with phase("tools"):
            if self._loop is not None:
                return await self._elsewhere(self._loop, work, function, seconds)
            turn = partial(self._turn, function, seconds)
            try:
                waits_for = turn(partial(work.send, None))
            except StopIteration as done:  # it never waited: no deadline is needed
                return done.value
            async with self._deadline(function, seconds):
                return await _drive(work, waits_for, turn)

    async def _elsewhere(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], function: Callable[..., Any], seconds: float
    ) -> Any:
        """On the thread of this episode.  What hangs there cannot be stopped, so nothing is sent after it."""
        if self._hung and not await _answers(loop):
            work.close()
            raise InfrastructureError(f"{self._where}: {_name(function)} cannot run, its thread still hangs in {self._hung}")
        result = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
        self._hung = _name(function)
        async with self._deadline(function, seconds):
            value = await result
        self._hung = None
        return value

    def close(self) -> None:
        """Let the thread end, if there is one."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _turn(self, function: Callable[..., Any], seconds: float, step: Callable[[], Any]) -> Any:
        """One stretch of work between two waits, on the event loop."""
        began = time.monotonic()
        WATCHDOG.watch(began + seconds, f"{self._where}: {_name(function)}")
        try:
            return step()
        finally:
            WATCHDOG.watch(None)
            held = time.monotonic() - began
            if self._code.note(held, seconds):
                text = f"{_name(function)} held the event loop for {held:.2f} s: worlds get a thread of their own from the next episode on"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            if held > seconds:
                raise self._late(function, seconds)

    @asynccontextmanager
    async def _deadline(self, function: Callable[..., Any], seconds: float) -> AsyncIterator[None]:
        """Like `asyncio.timeout`, but the time that others held the loop does not count."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.TimerHandle

        def check() -> None:
            """Just before the deadline strikes: if the loop comes to it late, others held it, and the work gets that time back."""
            nonlocal alarm
            late = loop.time() - due()
            if late > LATE_S:
                limit.reschedule(loop.time() + late)
                alarm = loop.call_at(due(), check)

        def due() -> float:
            when = limit.when()
            assert when is not None
            return when - LATE_S / 10

        try:
            async with asyncio.timeout(seconds) as limit:
                alarm = loop.call_at(due(), check)
                try:
                    yield
                finally:
                    alarm.cancel()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._late(function, seconds) from error

    def _late(self, function: Callable[..., Any], seconds: float) -> InfrastructureError:
        return InfrastructureError(f"{self._where}: {_name(function)} gave no answer in {seconds:g} s (raise step_seconds)")


async def _invoke(function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    value = function(*arguments, **named)
    return await value if inspect.isawaitable(value) else value


@types.coroutine
def _drive(work: Coroutine[Any, Any, Any], waits_for: Any, turn: Callable[[Callable[[], Any]], Any]) -> Generator[Any, Any, Any]:
    """Go on with `work`, which waits for `waits_for`, each stretch through `turn`."""
    while True:
        try:
            got = yield waits_for
        except BaseException as error:  # a deadline, a cancelled wait: its own code may clean up
            step = partial(work.throw, error)
        else:
            step = partial(work.send, got)
        try:
            waits_for = turn(step)
        except StopIteration as done:
            return done.value


async def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop of another thread takes up work."""
    ping: asyncio.Future[None] = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
    return bool((await asyncio.wait({ping}, timeout=1.0))[0])


def _own_loop(name: str) -> asyncio.AbstractEventLoop:
    """An event loop that runs on a thread of its own until it is stopped."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    threading.Thread(target=run, name=name, daemon=True).start()  # a daemon: what hangs in it must not hang the exit
    return loop


def _name(function: Callable[..., Any]) -> str:
    owner = getattr(function, "__self__", None)
    name: str = getattr(function, "__name__", type(function).__name__)
    return name if owner is None else f"{type(owner).__name__}.{name}"


class _Watchdog:
    """Tells of code on the main thread that never comes back, and interrupts it."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._what = ""
        self._thread: threading.Thread | None = None

    def watch(self, until: float | None, what: str = "") -> None:
        """From now on it must be back by `until`; None: it is back."""
        if threading.get_ident() != threading.main_thread().ident:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
            self._thread.start()
        self._what, self._until = what, until

    def _look(self) -> None:
        """Once a second: say where code stands that should be back, and interrupt the run."""
        while True:
            time.sleep(1.0)
            until, what, main = self._until, self._what, threading.main_thread().ident
            if until is not None and main is not None and time.monotonic() > until + 1.0:
                stack = "".join(traceback.format_stack(sys._current_frames().get(main), limit=4))
                print(f"{what} does not come back; the run is interrupted.  It stands at:\n{stack}", file=sys.stderr, flush=True)
                self._until = None
                signal.pthread_kill(main, signal.SIGINT)


WATCHDOG = _Watchdog()
