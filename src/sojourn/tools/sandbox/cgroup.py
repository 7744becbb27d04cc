"""One limit for all that runs in a box together: memory and number of processes, by the kernel's control groups.

The one idea: limits of a process (`setrlimit`) do not add up, so twenty processes of 256 MiB are 5 GiB; a control group counts them
together.  Versions 1 and 2 differ in paths and file names only.  Where no group can be made (an ordinary user, most
containers), `Group.make` gives None, and the limits of each process times their number are what holds.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "sojourn-"
END_S = 5.0
_number = itertools.count()
# What limits memory, swap and processes in version 1 (a folder for each controller) and version 2 (one for all).
MEMORY = {1: "memory.limit_in_bytes", 2: "memory.max"}
SWAP = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}


class Group:
    """A control group; in version 1 two of one name, for memory and for processes."""

    def __init__(self, parents: dict[str, Path], version: int) -> None:
        self.version = version
        name = f"{PREFIX}{os.getpid()}-{next(_number)}"
        self.folders = {controller: parent / name for controller, parent in parents.items()}
        for folder in self.folders.values():
            folder.mkdir(exist_ok=True)

    @classmethod
    def make(cls, memory_bytes: int, processes: int) -> Group | None:
        """A new group with these limits; None where the kernel or the machine's owner does not allow one."""
        version, parents = _parents()
        group = None
        try:
            group = cls(parents, version) if parents else None
            if group:
                group.limit(memory_bytes, processes)
        except OSError:
            if group:
                group._remove()
            return None
        return group

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set the limits.  Raises OSError."""
        memory, swap = self.folders["memory"] / MEMORY[self.version], self.folders["memory"] / SWAP[self.version]
        with_swap = memory_bytes if self.version == 1 else 0
        for file, value in ((swap, with_swap), (memory, memory_bytes), (swap, with_swap)):
            # Version 1 wants memory <= memory and swap at each moment: so swap is set before a rise and after a fall.
            # Not every kernel counts swap, and the file is absent then.
            with suppress(OSError) if file is swap else nullcontext():
                file.write_text(str(value))
        (self.folders["pids"] / "pids.max").write_text(str(processes))

    def joining(self) -> list[str]:
        """The start of a command line that joins the group and then becomes the command that follows."""
        files = " ".join(shlex.quote(str(folder / "cgroup.procs")) for folder in {*self.folders.values()})
        return ["/bin/sh", "-c", f'for file in {files}; do echo 0 >"$file" || exit 125; done; exec "$@"', "sh"]

    def processes(self) -> list[int]:
        """The host's ids of all processes in the group."""
        return [int(line) for line in (self.folders["pids"] / "cgroup.procs").read_text().split()]

    async def end(self) -> None:
        """Kill what still runs in the group, and remove it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while not self._remove():
                    with suppress(OSError):  # the process, or one of two folders, is gone by now
                        for process in self.processes():
                            os.kill(process, signal.SIGKILL)
                    await asyncio.sleep(0.002)

    def _remove(self) -> bool:
        for folder in {*self.folders.values()}:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # a process is still ending
                return False
        return True


@cache
def _parents() -> tuple[int, dict[str, Path]]:
    """The version, and for each controller the folder in which groups can be made; none where that is not possible."""
    found = dict(_own(ROOT, Path("/proc/self/cgroup")))
    parents: dict[str, Path] = {name: found[name] for name in ("memory", "pids") if name in found}
    version = 1
    if not parents and "" in found:
        version = 2
        with suppress(OSError):
            (found[""] / "cgroup.subtree_control").write_text("+memory +pids")
        parents = {"memory": found[""], "pids": found[""]}
    if len(parents) < 2 or not all(os.access(parent, os.W_OK) for parent in parents.values()):
        return version, {}
    for parent in {*parents.values()}:
        _sweep(parent)
    return version, parents


def _own(root: Path, listing: Path) -> Iterator[tuple[str, Path]]:
    """The controllers and this process's own group under each ("" for version 2), so that its limits hold for the boxes, too.

    A line is `4:memory:/a/group`; in a container the path may be the host's, then the mount itself is taken.
    """
    with suppress(OSError):
        for line in listing.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                mount = root / controller
                own = mount / path.lstrip("/")
                if mount.is_dir():
                    yield controller, own if own.is_dir() else mount


def _sweep(parent: Path) -> None:
    """Remove the groups of processes that were killed before they could."""
    for folder in parent.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            with suppress(OSError):
                folder.rmdir()
