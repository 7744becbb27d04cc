"""Nine nasty runs in boxes, and what this process then holds that it did not hold before.  python leaves_nothing.py TEMPORARY-FOLDER"""

import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from confined import of_kind

from sojourn.tools import Limits, Workspace

FORK = "import os, time\nif os.fork() == 0: time.sleep(100)"
NASTY = ["1", "import os; os._exit(1)", FORK, "import os; os.kill(-1, 9)"]


def held() -> tuple[list[str], list[str], set[tuple[str, str]]]:
    """What this process's boxes hold of the machine: control groups, processes, descriptors by number and what they lead to."""
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/sojourn-{os.getpid()}-*")]
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            descriptors.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return groups, children, descriptors


def inhabitants(namespace: str) -> set[tuple[str, str]]:
    """The living processes of a process namespace, as the host sees them: number and time of birth."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended by now
            if os.readlink(process / "ns/pid") == namespace:
                status = (process / "stat").read_text().rpartition(")")[2].split()
                if status[0] != "Z":  # dead, and the host's first process will see it
                    found.add((process.name, status[19]))
    return found


async def runs() -> None:
    before = held()
    for number in range(9):
        before = held() if number == 1 else before  # the first run makes what asyncio keeps
        workspace = Workspace(Limits(timeout_s=2.0), sandbox=of_kind("bubblewrap"))
        namespace = (await workspace.python("import os; print(os.readlink('/proc/self/ns/pid'))")).output.strip()
        snapshot = await workspace.snapshot()
        alive = inhabitants(namespace)
        assert len(alive) == 4, alive  # process 1, the warden, the interpreter and its copy
        await workspace.python(NASTY[number % len(NASTY)])
        await workspace.close()
        del snapshot
        async with asyncio.timeout(60):  # the kernel ends the last of them by itself, in its own time
            while alive & inhabitants(namespace):
                await asyncio.sleep(0.01)
    for kind, was, now in zip(("control groups", "processes", "descriptors"), before, held(), strict=True):
        assert not set(now) - set(was), f"{kind} were left: {sorted(set(now) - set(was))}"
    print("9 runs left nothing")


if __name__ == "__main__":
    tempfile.tempdir = sys.argv[1]
    asyncio.run(runs())
