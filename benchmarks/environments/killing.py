"""Workers are killed at random while episodes run: whether anything is lost, and whether throughput recovers.

    python benchmarks/environments/killing.py [--minutes 10] [--after 10] [--every 1.0] [--concurrency 8] [--world small/blocks]

Every `--every` seconds (exponentially distributed) one worker, whichever, gets SIGKILL.  The oracle plays, so that every episode that has
a result has the full reward.  A line a minute: episodes, kills, retries, episodes a second; then `--after` minutes without kills.  Fails if
an episode is lost, has no valid result in spite of its retries, scores less than the oracle does, or if the ledger does not add up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from contextlib import suppress
from random import Random
from typing import Any

from sojourn.agents import demonstrate
from sojourn.core import Episode
from sojourn.engine import SamplingParams
from sojourn.environments import World, from_elsewhere
from sojourn.environments.elsewhere import Pool
from sojourn.models import tiny
from sojourn.policy import Limits, Policy
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Rollout
from sojourn.training.ledger import NO_RESULT, Ledger

RETRIES = 100
ROUND = 32
"""Episodes of a rollout."""


class SilentEngine:
    """The oracle speaks for the policy."""

    max_context = 1 << 16


async def kill(pool: Pool, every: float, counted: list[int]) -> None:
    rng = Random(0)
    while True:
        await asyncio.sleep(rng.expovariate(1 / every))
        with suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice(sorted(worker.pid for worker in pool.all)), signal.SIGKILL)
            counted.append(1)


async def play(world: World, minutes: float, every: float | None, concurrency: int, ledger: Ledger) -> None:
    """Rollouts until the time is over, a line a minute."""
    protocol = PlainText()
    engine: Any = SilentEngine()
    policy = Policy("actor", engine, ChatRenderer(tiny().tokenizer, protocol), protocol, SamplingParams())
    limits = Limits(max_turns=100)
    rollout = Rollout(world.make, demonstrate, {"actor": policy}, limits=limits, concurrency=concurrency, retries=RETRIES)
    pool: Pool = world.make.pool  # type: ignore[attr-defined]
    kills: list[int] = []
    killing = asyncio.create_task(kill(pool, every, kills)) if every else None
    began, said, done, number = time.monotonic(), 0, 0, 0
    while time.monotonic() - began < 60 * minutes:
        tasks = [world.tasks.task("train", world.tasks.levels[0], number + i) for i in range(ROUND)]
        groups = await rollout.groups(tasks, size=1, seed=number, start=number)
        number += ROUND
        episodes = [episode for group in groups for episode in group.episodes]
        judge(episodes, ledger)
        done += len(episodes)
        if (minute := int((time.monotonic() - began) / 60)) > said or time.monotonic() - began >= 60 * minutes:
            said = minute
            rate = done / (time.monotonic() - began)
            print(f"{minute:3d} min  {done} episodes, {rate:.1f}/s, {len(kills)} kills, {ledger.retried} retried", flush=True)
    if killing is not None:
        killing.cancel()


def judge(episodes: list[Episode], ledger: Ledger) -> None:
    """Every episode was sampled, counts, and scored as the oracle does."""
    if len(episodes) != ROUND:
        raise SystemExit(f"{ROUND - len(episodes)} episodes are lost")
    for episode in episodes:
        if not episode.valid or not episode.success:
            raise SystemExit(f"{episode.id}: {episode.stop}, reward {episode.total}, {episode.failures}")
    ledger.enter(episodes, ["" if episode.valid else NO_RESULT for episode in episodes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--after", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--world", default="small/blocks")
    given = parser.parse_args()
    world = from_elsewhere("sojourn.environments.listing:find", given.world)
    ledger = Ledger()
    for minutes, every in ((given.minutes, given.every), (given.after, None)):
        print("with kills" if every else "without")
        asyncio.run(play(world, minutes, every, given.concurrency, ledger))
    print(ledger, world.make.pool.counts)  # type: ignore[attr-defined]
    world.make.pool.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
