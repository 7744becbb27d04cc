"""Where code of an agent runs: a process that can reach nothing and use little.

The one idea: bubblewrap gives the process a world of its own (no network, no other processes, a read-only system, an empty
working directory in memory), and limits that the process puts on itself before it runs any foreign code (`worker.limit`) keep it
small.  Where bubblewrap is missing or does not work, only the limits are left, and a warning says so.

As root, the process first becomes a user that nobody else is: root is exempt from process limits and would own the host's files.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sojourn.core import InfrastructureError

WORK = "/box"
PROBE_S = 30.0
DISK_BYTES = 64 << 20
# The range that systemd sets aside for users made up on the fly: no account has one of these ids.
USERS = range(61184, 65520)
_next_user = itertools.count(os.getpid() * 7)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to start a confined Python.

    python: an interpreter that can be read from within.  Only its standard library is there.
    bwrap: the program bubblewrap, or None for process limits alone.
    """

    python: str
    bwrap: str | None = None

    @classmethod
    def best(cls) -> Sandbox:
        """The strongest sandbox that works on this machine; probed once.  Warns when it is not bubblewrap.

        Raises `InfrastructureError` if none works.
        """
        return _best()

    @classmethod
    def limits_only(cls) -> Sandbox:
        """The sandbox without bubblewrap.  Raises `InfrastructureError` if it does not work."""
        return _first_working(None)

    def problem(self) -> str | None:
        """Why this sandbox does not work here; None if it does."""
        box = Box(self)
        command = box.command(["-c", "import json, resource; print('ok')"])
        try:
            done = subprocess.run(command, capture_output=True, timeout=PROBE_S, **box.options)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        finally:
            box.release()
        return None if done.stdout == b"ok\n" else done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"


class Box:
    """One confined process: the user it runs as, its directory on the host (if it has one), its command line, its life."""

    process: asyncio.subprocess.Process

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.directory = None if sandbox.bwrap else tempfile.TemporaryDirectory(prefix="sojourn-", ignore_cleanup_errors=True)
        work = self.directory.name if self.directory else WORK
        # bubblewrap's own process 1 shows the environment it was started with in /proc/1/environ: start it with this one only.
        environment = {"PATH": "/usr/bin:/bin", "HOME": work, "TMPDIR": work, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        self.options: dict[str, Any] = {"env": environment, "cwd": work if self.directory else "/", "start_new_session": True}
        if os.geteuid() == 0:
            user = USERS[next(_next_user) % len(USERS)]
            self.options |= {"user": user, "group": user, "extra_groups": []}
            if self.directory:
                os.chown(work, user, user)

    async def start(self, arguments: Sequence[str], *, line_bytes: int) -> asyncio.subprocess.Process:
        """Start `python *arguments` with pipes; a line of its output may hold `line_bytes`.  Raises OSError."""
        pipe = asyncio.subprocess.PIPE
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command(arguments), stdin=pipe, stdout=pipe, stderr=pipe, limit=line_bytes, **self.options
            )
        except BaseException:
            self.release()
            raise
        return self.process

    async def end(self, patience_s: float = 0.0) -> int | None:
        """End it, after `patience_s` to end by itself.  Its exit code, negative for a signal; None if it had to be killed.

        With bubblewrap its death ends the whole process namespace; without, it could not make descendants.
        """
        code: int | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                code = await self.process.wait()
        if code is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self.release()
        return code

    def release(self) -> None:
        """Remove the directory."""
        if self.directory:
            self.directory.cleanup()

    def command(self, arguments: Sequence[str]) -> list[str]:
        """-S -s: the standard library alone, so that the same code answers the same on every machine."""
        inner = [self.sandbox.python, "-S", "-s", *arguments]
        if self.sandbox.bwrap is None:
            return inner
        # fmt: off
        return [
            self.sandbox.bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
            "--cap-drop", "ALL", "--hostname", "box",
            *_system(self.sandbox.python),
            "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
            "--size", str(DISK_BYTES), "--tmpfs", WORK, "--chdir", WORK, "--remount-ro", "/",
            "--", *inner,
        ]
        # fmt: on


@cache
def _best() -> Sandbox:
    bwrap = shutil.which("bwrap")
    reason = "it is not installed: `apt-get install bubblewrap` or your system's like"
    if bwrap:
        try:
            return _first_working(bwrap)
        except InfrastructureError as error:
            reason = f"it does not work here: {error}"
    sandbox = _first_working(None)
    warnings.warn(
        f"no bubblewrap, {reason}. The code that agents write runs under process limits alone: it cannot use much time or "
        "memory, but it can reach the network and read the files that are open to all. See docs/sandbox.md.",
        RuntimeWarning,
        stacklevel=3,
    )
    return sandbox


def _first_working(bwrap: str | None) -> Sandbox:
    """The sandbox with the first Python that can be read in it: the one that runs now, else the system's."""
    problems = []
    for python in dict.fromkeys((os.path.realpath(sys.executable), shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin"))):
        if python is not None:
            sandbox = Sandbox(python, bwrap)
            problem = sandbox.problem()
            if problem is None:
                return sandbox
            problems.append(f"{python}: {problem}")
    raise InfrastructureError(
        f"no Python can be started in the sandbox ({'; '.join(problems)}). "
        "As root, install one that every user can read (apt-get install python3), or run as an ordinary user."
    )


def _system(python: str) -> list[str]:
    """Arguments of bubblewrap that bring in the system, read-only, and the place where `python` lives."""
    arguments = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("/bin", "/lib", "/lib64"):
        if os.path.islink(name):
            arguments += ["--symlink", os.readlink(name), name]
        else:
            arguments += ["--ro-bind-try", name, name]
    home = str(Path(python).parent.parent)
    return arguments if home == "/usr" or home.startswith("/usr/") else [*arguments, "--ro-bind", home, home]
