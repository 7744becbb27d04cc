"""Workers are killed at random, under load: nothing is lost, nothing gets a reward of 0, the ledger adds up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest
from stub_workers import stub

from sojourn.core import Action, Episode, FailureKind, Standing, StopReason
from sojourn.engine import SamplingParams
from sojourn.environments import World
from sojourn.models import tiny
from sojourn.policy import Limits, Policy, Session
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Rollout
from sojourn.training.ledger import NO_RESULT, Ledger

SIZE = 4


class StubEngine:
    """Says nothing: the program speaks for the policy."""

    max_context = 1 << 16


def policy() -> Policy:
    protocol = PlainText()
    return Policy("actor", StubEngine(), ChatRenderer(tiny().tokenizer, protocol), protocol, SamplingParams())  # type: ignore[arg-type]


def rollout(world: World, before_step: Callable[[], None], retries: int) -> list[Episode]:
    """Every task four times, each counted out; `before_step` is called before each step."""

    async def count(session: Session) -> None:
        context = session.open(await session.reset())
        while not session.done:
            action = Action("more")
            context = session.say(context, action)
            before_step()
            observation = await session.step(context, action)
            context = context.observe(*observation.messages)

    tasks = [world.tasks.task("train", "default", index) for index in range(10)]
    plan = Rollout(world.make, count, {"actor": policy()}, limits=Limits(max_turns=50), concurrency=5, retries=retries)
    groups = asyncio.run(plan.groups(tasks, size=SIZE, seed=1))
    return [episode for group in groups for episode in group.episodes]


def killer(world: World, share: float) -> Callable[[], None]:
    """Kills one of all workers, whichever, before a share of the steps."""
    rng = Random(3)

    def kill() -> None:
        if rng.random() < share and world.make.pool.all:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(sorted(worker.pid for worker in world.make.pool.all)), signal.SIGKILL)

    return kill


@pytest.mark.parametrize("retries", [0, 1000])
def test_killed_workers_cost_nothing_but_time(retries: int) -> None:
    with stub("counter") as world:
        undisturbed = rollout(world, lambda: None, 0)
        assert [episode.total for episode in undisturbed] == [1.0] * len(undisturbed)
        episodes = rollout(world, killer(world, 0.04), retries)
        assert world.make.pool.counts["lost"] >= 5
        assert world.make.pool.counts["started"] - world.make.pool.counts["lost"] == len(world.make.pool.all)
    assert [episode.id for episode in episodes] == [episode.id for episode in undisturbed]
    assert all(episode.valid for episode in episodes) == any(episode.attempts > 1 for episode in episodes) == bool(retries)
    for episode, quiet in zip(episodes, undisturbed, strict=True):
        if episode.valid:
            assert (episode.total, len(episode.actions)) == (quiet.total, len(quiet.actions))
        else:
            assert episode.stop is StopReason.FAILED and episode.standing is Standing.NO_RESULT
            assert {failure.kind for failure in episode.failures} == {FailureKind.INFRASTRUCTURE}
    ledger = Ledger()
    ledger.enter(episodes, ["" if episode.valid else NO_RESULT for episode in episodes])
    assert ledger.sampled == len(undisturbed) == ledger.trained + ledger.ended[NO_RESULT]
