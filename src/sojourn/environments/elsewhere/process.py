"""A worker as its parent sees it: a process that is asked one thing at a time, and ended when it does not answer.

A worker that died or hung says nothing about the policy: that is an `InfrastructureError`, which names the question, the signal and what
the worker wrote last.  What the world itself raised comes out as it was raised there, with the worker's traceback as a note.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sojourn.core import InfrastructureError
from sojourn.environments.elsewhere.channel import Channel
from sojourn.environments.elsewhere.worker import BENEATH

START = Path(__file__).with_name("start.py")
TAIL = 2000
"""Characters of what a dead worker wrote last that an error shows."""
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")


class Worker:
    """A process of `python`.  Its world hashes texts as every other worker does, so that sets have one order."""

    def __init__(self, python: str) -> None:
        here, there = socket.socketpair()
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (it lives as long as the worker)
        kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-s", str(START), str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**kept, "PYTHONHASHSEED": "0"},
                start_new_session=True,  # its own group: what it starts ends with it
            )
        except OSError as error:
            here.close()
            raise InfrastructureError(f"no worker could be started with {python}: {error}") from error
        finally:
            there.close()
        self._channel = Channel(here)
        self._asking = False
        self.pid = self._process.pid
        self.episodes = 0

    def __str__(self) -> str:
        return f"worker {self.pid}"

    @property
    def usable(self) -> bool:
        """Whether it lives and has answered all that it was asked."""
        return not self._asking and self._process.poll() is None

    async def ask(self, do: str, *arguments: object, within: float, drop: Sequence[int] = (), **named: object) -> dict[str, Any]:
        """The reply.  `within`: seconds; whatever ends the wait ends the worker, for what it would say next is not known.

        Raises `InfrastructureError` if the worker died, hung or said that something beneath it broke; and what the world raised.
        """
        self._asking = True
        try:
            reply = await self._reply({"do": do, "with": arguments, "named": named, "drop": drop}, within)
        except BaseException as error:
            self.kill()
            if isinstance(error, TimeoutError):
                text = f"{self} gave no answer to '{do}' in {within:g} s and was ended (raise Deadlines)"
                raise InfrastructureError(text + self._last_words()) from error
            raise
        if reply is None:
            raise InfrastructureError(f"{self} died during '{do}' ({self._end()}){self._last_words()}")
        self._asking = False
        if reply.get("raised") == BENEATH:
            self.kill()
        if "raised" in reply:
            raise _error(reply, f"{self} in '{do}'")
        return reply  # type: ignore[no-any-return]

    async def _reply(self, message: dict[str, object], within: float) -> Any:
        try:
            async with asyncio.timeout(within):
                await self._channel.send(message)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            return None
        while True:
            try:
                async with asyncio.timeout(within):
                    return await self._channel.receive()
            except TimeoutError:
                if not self._channel.waiting():  # else others held the event loop, and the answer has come
                    raise

    def rest(self) -> None:
        """Forget what it has written so far: its next episode has a log of its own."""
        self._log.truncate(0)

    def kill(self) -> None:
        """End it and what it has started, at once."""
        self._asking = True
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:  # not waited for, so the number is still its own
                os.killpg(self.pid, signal.SIGKILL)
        self._channel.close()
        self._process.poll()

    def _end(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        self.kill()
        if code is None:
            return "it closed its pipe"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - TAIL))
        said = self._log.read().decode(errors="replace").strip()
        return f"; it wrote last:\n{said}" if said else ""


def _error(reply: dict[str, Any], where: str) -> Exception:
    kind = InfrastructureError if reply["raised"] == BENEATH else getattr(builtins, reply["raised"])
    error: Exception = kind(reply["text"])
    error.add_note(f"{where}:\n{reply['trace']}")
    return error
