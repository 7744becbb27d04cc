"""What the sandbox costs, and whether it leaves anything behind.

    python benchmarks/sandbox/cost.py [--repeats 100] [--runs 200] [--forks 100] [--json benchmarks/sandbox/cost.json]

Times are of one call, alone, in milliseconds: median and 95th percentile.  A fork is measured for an interpreter that holds next to
nothing, one that holds 100 MiB of small objects, and one with 16 MiB in 1,000 files.  Then `--forks` forks of one session that all live at
once: each, and at last the session itself, goes on from the state and must say the same.  Then `--runs` episodes in a row, each with a
snapshot, a daemon and a killed interpreter; counted are descriptors, control groups and living processes before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sojourn.tools import Limits, Pool, Workspace

STATES = {
    "nothing": "",
    "100 MiB of objects": "held = [str(i) * 8 for i in range(850_000)]",
    "16 MiB in 1,000 files": "for i in range(1000): open(f'{i}', 'wb').write(bytes(16 << 10))",
}
DAEMON = """
import os, resource, time
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
"""
STATEFUL = """
import random
random.seed(3)
counting = (n * n for n in range(1000))
for _ in range(5): next(counting)
file = open("open.txt", "w")
file.write("not yet flushed, ")
table = {"a": [1, 2], "b": {3}}
alias = table["a"]
"""
ON = """
alias.append(next(counting))
file.write("now"); file.flush()
print(table, random.random(), file.tell())
"""
LIMITS = Limits(timeout_s=30.0, memory_mb=1024, disk_mb=1024)


async def timed(repeats: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        await call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


async def costs(repeats: int) -> dict[str, list[float]]:
    """The times of everything that a workspace does."""
    found = {}

    async def whole() -> None:
        async with Workspace(LIMITS) as workspace:
            await workspace.python("1")

    found["start, one call, end"] = await timed(repeats // 5 + 1, whole)
    pool = Pool(1, LIMITS)
    await pool.warm()
    async with Workspace(pool=pool) as workspace:
        found["first call on a warm box"] = await timed(1, lambda: workspace.python("1"))
        found["Python call"] = await timed(repeats, lambda: workspace.python("1"))
        found["shell command"] = await timed(repeats, lambda: workspace.shell("true"))
    await pool.close()
    for name, code in STATES.items():
        async with Workspace(LIMITS) as workspace:
            await workspace.python(code)
            snapshot = await workspace.snapshot()
            found[f"restore, {name}"] = await timed(repeats // 4 + 1, lambda: workspace.restore(snapshot))  # noqa: B023

            async def fork() -> None:
                await (await workspace.fork()).close()

            found[f"fork and its end, {name}"] = await timed(repeats // 4 + 1, fork)
    return found


async def forks(count: int) -> dict[str, float]:
    """How many of `count` forks, all alive at once, went on as their origin did; milliseconds to make one, and MiB that it took."""
    async with Workspace(LIMITS) as origin:
        await origin.python(STATEFUL)
        await origin.shell("mkdir -p sub && cd sub && export WORD=kept && echo shell > note.txt")
        free, others, start = _free_mib(), [], time.perf_counter()
        for _ in range(count):
            others.append(await origin.fork())
        spent, taken = 1e3 * (time.perf_counter() - start), free - _free_mib()
        said = [await _go_on(other) for other in others]
        equal = sum(each == said[0] for each in said[1:]) + (said[0] == await _go_on(origin))
        for other in others:
            await other.close()
    return {"equal": equal, "of": count, "ms each": round(spent / count, 1), "MiB each": round(taken / count, 2)}


async def _go_on(work: Workspace) -> tuple[str, str, bytes]:
    ran = [await work.python(ON), await work.shell("echo $WORD; pwd; cat note.txt")]
    return ran[0].output, ran[1].output, await work.read("open.txt")


def _free_mib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def held() -> dict[str, int]:
    """What this process holds of the machine."""
    groups = len(list(Path("/sys/fs/cgroup").glob(f"**/sojourn-{os.getpid()}-*")))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {"descriptors": len(os.listdir("/proc/self/fd")), "control groups": groups, "processes": len(children)}


async def leaks(runs: int) -> dict[str, int]:
    """By how much each count has grown after `runs` episodes."""
    before: dict[str, int] = {}
    for number in range(runs + 1):
        async with Workspace(Limits()) as workspace:
            await workspace.python("x = 1")
            snapshot = await workspace.snapshot()
            await workspace.python(DAEMON)
            await workspace.python("import os; os._exit(1)")
            await workspace.restore(snapshot)
        before = before or held()  # the first run makes what asyncio keeps
        if number % 50 == 49:
            print(f"{number + 1} runs: {held()}")
    return {name: count - before[name] for name, count in held().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times = asyncio.run(costs(options.repeats))
    table = Table("what", "median ms", "95 % ms")
    rows = {}
    for name, values in times.items():
        rows[name] = {"median": statistics.median(values), "p95": sorted(values)[-(-19 * len(values) // 20) - 1]}
        table.add_row(name, f"{rows[name]['median']:.1f}", f"{rows[name]['p95']:.1f}")
    Console().print(table)
    forked = asyncio.run(forks(options.forks))
    print(f"forks that went on as their origin: {forked}")
    grown = asyncio.run(leaks(options.runs))
    print(f"left behind after {options.runs} runs: {grown}")
    if options.json:
        options.json.write_text(
            json.dumps({"ms": rows, "forks": forked, "runs": options.runs, "left behind": grown}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
