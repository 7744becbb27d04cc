"""A box: one confinement with all that runs in it, and the limits of the whole.

The one idea: the host talks to the box's first process (the warden, `inside/warden.py`), which never runs the agent's code, and through
it starts interpreters.  What the sandbox is decides how much a box can do: only bubblewrap's holds several processes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sojourn.core import InfrastructureError
from sojourn.tools.sandbox import inside
from sojourn.tools.sandbox.cgroup import Group
from sojourn.tools.sandbox.limits import MIB, Limits
from sojourn.tools.sandbox.peer import Peer
from sojourn.tools.sandbox.sandbox import Sandbox, open_filter

START_S = 60.0
GRACE_S = 2.0
# The range that systemd sets aside for users made up on the fly: no account has one of these ids.
USERS = range(61184, 65520)
_next_user = itertools.count(os.getpid() * 7)


class Box:
    """One box; `warden` is its first process.  Its sessions take turns: `lock` is held for each call, `turn` names whose it was."""

    warden: Peer
    process: asyncio.subprocess.Process

    def __init__(self, sandbox: Sandbox, limits: Limits) -> None:
        self.sandbox = sandbox
        self.limits = limits
        self.alone = sandbox.kind != "bubblewrap"
        self.lock = asyncio.Lock()
        self.turn: str | None = None
        self.users = 1
        self.names = map(str, itertools.count())
        self.living: list[Peer] = []
        self.ended = False
        self._code: int | None = None
        self.complaint = ""  # what was said on its standard error, known when it has ended
        self._complaints = -1
        self._directory = tempfile.TemporaryDirectory(prefix="sojourn-", ignore_cleanup_errors=True) if self.alone else None
        self._group: Group | None = None

    async def start(self) -> Box:
        """Start it.  Raises `InfrastructureError` if it is not ready in `START_S`."""
        settings = {**asdict(self.limits), "modules": inside.sources(self.alone)}
        first = json.dumps(settings).encode() + b"\n"
        here, there = socket.socketpair()
        try:
            if self.sandbox.kind == "bubblewrap":
                self._group = Group.make(*self._whole())
            with there, _Started(self, ["-c", inside.START]) as (command, options):
                self._complaints, complaining = os.pipe()
                with os.fdopen(complaining, "wb"):
                    self.process = await asyncio.create_subprocess_exec(
                        *command, stdin=there.fileno(), stdout=there.fileno(), stderr=complaining, **options
                    )
        except (OSError, ValueError) as error:
            here.close()
            await self._release()
            raise InfrastructureError(f"the sandbox cannot be started ({error})") from error
        try:
            async with asyncio.timeout(START_S):
                self.warden = await Peer.on(here, self.limits.output_chars, first)
        except (TimeoutError, EOFError, ConnectionError) as error:
            code = await self.end(0 if isinstance(error, TimeoutError) else GRACE_S)
            said = self.complaint or name_exit(code)
            raise InfrastructureError(f"the sandbox did not start in {START_S:g} s: {said}") from error
        except BaseException:
            await self.end()
            raise
        return self

    @classmethod
    def probe(cls, sandbox: Sandbox, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Let the sandbox's Python say ok."""
        box = cls(sandbox, Limits())
        try:
            with _Started(box, ["-c", "import json\nprint('ok')"]) as (command, options):
                return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, **options)
        finally:
            if box._directory:
                box._directory.cleanup()

    async def interpreter(self) -> Peer:
        """A new interpreter in the present session's folder."""
        if self.alone:
            return self.warden
        return await self.connected(self.warden, "start")

    async def connected(self, parent: Peer, do: str, **arguments: object) -> Peer:
        """Let `parent` make a process, and give it a channel of its own.  Raises `Refused`, EOFError, ConnectionError."""
        here, there = socket.socketpair()
        try:
            with there:
                await parent.ask(do, "started", passing=there.fileno(), **arguments)
        except BaseException:
            here.close()
            raise
        peer = await Peer.on(here, self.limits.output_chars)
        self.living.append(peer)
        self.allow()
        return peer

    def allow(self) -> None:
        """Let the limits of the whole follow the number of sessions."""
        if self._group:
            with suppress(OSError):
                self._group.limit(*self._whole())

    def _whole(self) -> tuple[int, int]:
        """Bytes of memory, and processes: each session as its own limits have it, and the box's own."""
        sessions = len(self.living) + 2
        return (self.limits.memory_mb * sessions + self.limits.disk_mb + 64) * MIB, self.limits.processes + sessions + 8

    async def end(self, patience_s: float = 0.0) -> int | None:
        """End it, after `patience_s` to end by itself.  Its exit code, negative for a signal; None if it had to be killed.

        With bubblewrap its death ends the whole process namespace; without, it could not make descendants.
        """
        if self.ended:
            return self._code
        self.ended = True
        code: int | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                code = await self.process.wait()
        if code is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        for peer in (*self.living, *([self.warden] if hasattr(self, "warden") else [])):
            peer.hang_up()
        await self._release()
        self._code = code
        return code

    async def _release(self) -> None:
        if self._complaints >= 0:
            os.set_blocking(self._complaints, False)
            with suppress(BlockingIOError):
                self.complaint = os.read(self._complaints, 1 << 16).decode(errors="replace").strip()
            os.close(self._complaints)
            self._complaints = -1
        if self._directory:
            self._directory.cleanup()
        if self._group:
            await self._group.end()


class _Started:
    """What it takes to start a box's process: its command line and options; the filter's descriptor is closed afterwards."""

    def __init__(self, box: Box, arguments: Sequence[str]) -> None:
        self.box, self.arguments = box, list(arguments)
        self.fd = -1

    def __enter__(self) -> tuple[list[str], dict[str, Any]]:
        box, sandbox = self.box, self.box.sandbox
        work = box._directory.name if box._directory else "/work/home"
        # bubblewrap's own process 1 shows the environment it was started with in /proc/1/environ: start it with this one only.
        environment = {"PATH": "/usr/bin:/bin", "HOME": work, "TMPDIR": work, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        if sandbox.kind == "wasm":  # what is compiled is kept there; the code itself sees none of this
            environment["HOME"] = os.path.expanduser("~")
        options: dict[str, Any] = {"env": environment, "cwd": work if box._directory else "/", "start_new_session": True}
        user = USERS[next(_next_user) % len(USERS)] if os.geteuid() == 0 else None
        if sandbox.kind == "limits" and user is not None:
            options |= {"user": user, "group": user, "extra_groups": []}
            os.chown(work, user, user)
        if sandbox.kind == "bubblewrap":
            self.fd = open_filter()
            options["pass_fds"] = (self.fd,)
        command = sandbox.command(self.arguments, box.limits, filter_fd=self.fd, user=user)
        return [*(box._group.joining() if box._group else []), *command], options

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def name_exit(code: int | None) -> str:
    """An exit code in words; bubblewrap and shells report signal n as 128 + n."""
    if code is None:
        return "it gave no sign of life"
    number = -code if code < 0 else code - 128
    return signal.Signals(number).name if number in signal.valid_signals() else f"exit code {code}"
