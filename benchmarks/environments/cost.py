"""What a step over the pipe costs: the same world in this process and in workers, one episode alone and 16 at once.

    python benchmarks/environments/cost.py [--steps 2000] [--json benchmarks/environments/cost.json]

The world is `small/blocks`; its actions are legal ones, the first of the list.  Steps a second, the cost of a step in microseconds, and the
difference between both; the start of a worker in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sojourn.core import Action, Environment
from sojourn.core.handover import settled
from sojourn.environments import World, find, from_elsewhere

TOGETHER = 16


async def episode(world: World, steps: int) -> float:
    """Seconds of `steps` steps, resets left out."""
    task, spent, left = world.tasks.task("train", "5", 0), 0.0, steps
    one: Environment = world.make()
    while left:
        await one.reset(task, seed=0)
        action = Action((await settled(one.legal_actions()))[0])  # type: ignore[attr-defined]
        began = time.perf_counter()
        for _ in range(min(left, 8)):
            left -= 1
            await one.step(action)
        spent += time.perf_counter() - began
    await one.close()
    return spent


async def rates(world: World, steps: int) -> dict[str, float]:
    """Steps a second: alone, and all together."""
    await asyncio.gather(*(episode(world, 8) for _ in range(TOGETHER)))  # start the workers
    alone = steps / await episode(world, steps)
    began = time.perf_counter()
    await asyncio.gather(*(episode(world, steps) for _ in range(TOGETHER)))
    return {"alone": alone, f"{TOGETHER} at once": TOGETHER * steps / (time.perf_counter() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    there = from_elsewhere("sojourn.environments.listing:find", "small/blocks")
    found: dict[str, float] = {"start of a worker, s": time.perf_counter() - began}
    for name, world in (("here", find("small/blocks")), ("elsewhere", there)):
        found |= {f"{name}, {what}, steps/s": rate for what, rate in asyncio.run(rates(world, given.steps)).items()}
    found["a step over the pipe, us"] = 1e6 / found["elsewhere, alone, steps/s"] - 1e6 / found["here, alone, steps/s"]
    there.make.pool.close()  # type: ignore[attr-defined]
    table = Table("what", "value", box=None)
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}" if value < 10 else f"{value:,.0f}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
