"""The first process of a box of bubblewrap: the host's hand in it.

The one idea: it runs no code of the agent itself.  It starts interpreters and shells, moves the folders of sessions, and ends
processes; so it outlives whatever the code does to its own process.

Sessions of one box take turns: the folder of the one whose turn it is lies at `HOME`, those of the others in `ASIDE`, each under its
number.  A rename moves a whole folder at once, and files that are open in it stay open.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from contextlib import suppress
from typing import Any

from sojourn.tools.sandbox.inside.alone import Alone, limit, private_channel, serve
from sojourn.tools.sandbox.inside.channel import Channel
from sojourn.tools.sandbox.inside.copying import copy_tree, remove_tree, split
from sojourn.tools.sandbox.inside.shell import run as run_command

HOME = "/work/home"
ASIDE = "/work/aside"
END_S = 2.0
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36


def main(settings: dict[str, Any]) -> None:
    limit(settings["memory_mb"], settings["processes"] + settings["copies"])
    allow_processes(True)
    control = ctypes.CDLL(None).prctl
    control(PR_SET_DUMPABLE, 0, 0, 0, 0)  # neither its memory nor that of any interpreter can be opened by another process
    control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become its own: it hears how they end
    serve(Warden(private_channel(passes=True), settings))


class Session(Alone):
    """An interpreter in a process of its own, which can become two."""

    def run(self, code: str) -> None:
        reap({})  # what the last call left behind, and `sweep` has killed
        super().run(code)

    def split(self, source: str, target: str) -> None:
        """The copy says on its own channel that it is ready."""
        allow_processes(True)
        try:
            copied = split(self.channel, source, target)
        finally:
            allow_processes(False)
        if copied:
            self.channel.send(ready=True, pid=os.getpid())
        else:
            self.channel.send(started=True)


class Warden:
    """The host's hand in the box."""

    def __init__(self, channel: Channel, settings: dict[str, Any]) -> None:
        self.channel = channel
        self.settings = settings
        os.makedirs(HOME)
        os.makedirs(ASIDE)
        os.chdir(HOME)

    def start(self) -> None:
        """A new interpreter in the present folder, on the channel that came with the request."""
        pid = os.fork()
        if pid:
            os.close(self.channel.passed)
            self.channel.send(started=True)
            return
        os.dup2(self.channel.passed, self.channel.incoming, inheritable=False)
        os.close(self.channel.passed)
        allow_processes(False)
        os.chdir(HOME)
        serve(Session(Channel(self.channel.incoming, self.channel.incoming, passes=True), self.settings))
        os._exit(0)

    def shell(self, command: str, state: str, timeout_s: float, keep: list[int]) -> None:
        """Run a command in the present folder; see `inside/shell.py`."""
        run_command(
            self.channel,
            command,
            state,
            HOME,
            timeout_s=timeout_s,
            output_chars=self.settings["output_chars"],
            processes=self.settings["processes"] + len(keep) + 3,
        )

    def sweep(self, keep: list[int]) -> None:
        """End all processes but `keep`: those that code has left behind, and interpreters that hang."""
        deadline = time.monotonic() + END_S
        keep = [1, os.getpid(), *keep]
        ends: dict[str, int] = {}
        while True:
            others = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in keep and not is_dead(pid)]
            for pid in others:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            reap(ends)
            if not others or time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        self.channel.send(left=len(others), ends=ends)

    def turn(self, leaving: str | None, coming: str) -> None:
        """Put the present folder aside under the name `leaving` (None: away), and bring `coming` in (a new one if there is none)."""
        os.chdir("/")
        if leaving:
            os.rename(HOME, f"{ASIDE}/{leaving}")
        elif os.path.lexists(HOME):
            remove_tree(HOME)
        if os.path.lexists(f"{ASIDE}/{coming}"):
            os.rename(f"{ASIDE}/{coming}", HOME)
        else:
            os.mkdir(HOME)
        os.chdir(HOME)
        self.channel.send(done=True)

    def copy(self, source: str, target: str) -> None:
        copy_tree(source, target)
        self.channel.send(done=True)

    def remove(self, folder: str) -> None:
        if os.path.lexists(folder):
            remove_tree(folder)
        self.channel.send(done=True)

    read = Alone.read
    write = Alone.write


def allow_processes(hard: bool) -> None:
    """Let this process start others, or none."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (most if hard else 0, most))


def is_dead(pid: int) -> bool:
    """Gone, or a zombie whose parent, an interpreter of another session, has not looked."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def reap(ends: dict[str, int]) -> None:
    """Take the exit codes of children that have ended, by process id."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            ends[str(ended[0])] = os.waitstatus_to_exitcode(ended[1])
