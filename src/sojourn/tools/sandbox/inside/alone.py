"""A box of one process: the limits it puts on itself, an interpreter, and files; it serves the host until that hangs up.

Where there can be one process only (process limits alone, WebAssembly), this is the program of the box.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

from sojourn.tools.sandbox.inside.channel import Channel
from sojourn.tools.sandbox.inside.interpreter import Interpreter

try:
    import resource
except ImportError:  # WebAssembly
    resource = None  # type: ignore[assignment]

FILE_BYTES = 16 << 20
OPEN_FILES = 64


def main(settings: dict[str, Any]) -> None:
    if resource is None:  # WebAssembly: its machine has limits of its own, and neither can be had twice
        serve(Alone(Channel(0, 1, passes=False), settings))
    else:
        limit(settings["memory_mb"], 0)
        serve(Alone(private_channel(passes=False), settings))


def private_channel(*, passes: bool) -> Channel:
    """The way to the host, away from the standard streams: what code reads and writes below Python's own goes nowhere."""
    end, null = os.dup(0), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return Channel(end, end, passes=passes)


def limit(memory_mb: int, processes: int) -> None:
    """Limits that cannot be raised again.

    processes: how many this user may have.  The soft limit is none, so that ordinary code gets an error that says so; code that raises
    it meets the hard one, and all its processes end with the call.
    """
    hard = {
        resource.RLIMIT_AS: memory_mb << 20,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: processes,
    }
    for kind, value in hard.items():
        resource.setrlimit(kind, (0 if kind == resource.RLIMIT_NPROC else value, value))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # when the host runs out of memory, this process goes first
            file.write("900")
    except OSError:
        pass


class Alone:
    """One interpreter, in this very process; files are those of its folder."""

    def __init__(self, channel: Channel, settings: dict[str, Any]) -> None:
        self.channel = channel
        self.interpreter = Interpreter(channel, timeout_s=settings["timeout_s"], output_chars=settings["output_chars"])

    def run(self, code: str) -> None:
        self.interpreter.run(code)

    def read(self, path: str, start: int, size: int) -> None:
        """Some bytes of a file, in base64; fewer than `size` at its end."""
        with open(path, "rb") as file:
            file.seek(start)
            self.channel.send(data=base64.b64encode(file.read(size)).decode())

    def write(self, path: str, data: str, more: bool) -> None:
        """Write a file, or add to it; its folders are made."""
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab" if more else "wb") as file:
            file.write(base64.b64decode(data))
        self.channel.send(done=True)


def serve(served: Any) -> None:
    """Until the host hangs up.  What cannot be done is said; only `run` and `shell` have answers of their own for errors."""
    channel = served.channel
    channel.send(ready=True, pid=os.getpid())
    while (request := channel.receive()) is not None:
        arguments = {key: value for key, value in request.items() if key not in ("id", "do")}
        do: Callable[..., None] = getattr(served, str(request["do"]))
        try:
            do(**arguments)
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            channel.send(refused=f"{error}" or type(error).__name__, errno=getattr(error, "errno", None))
