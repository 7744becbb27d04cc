"""Rollouts: groups of episodes, all at once, each an agent program in its own environment.

Failures are classed here: a full context is the policy's, anything that breaks is the infrastructure's and never a reward.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sojourn.core import (
    ContextFull,
    Environment,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    InfrastructureError,
    StopReason,
    Task,
    TrajectoryTree,
)
from sojourn.policy import Limits, Policy, Program, Session
from sojourn.policy.session import stable_hash
from sojourn.policy.values import ValuedSession


@dataclass(frozen=True, slots=True)
class Rollout:
    """How episodes are played.

    environment: makes a fresh world for one episode.  policies: by name; the one that is trained is "actor".
    concurrency: episodes in flight at most; raising it fills the engine's batch, and takes memory and tool processes.
    """

    environment: Callable[[], Environment]
    program: Program
    policies: Mapping[str, Policy]
    limits: Limits = Limits()
    concurrency: int = 64
    value_rollouts: int = 0
    """Continuations that estimate the value of each state (`policy.values`); 0 for none."""

    async def groups(
        self, tasks: Sequence[Task], *, size: int, seed: int, start: int = 0, done: Callable[[Episode], None] = lambda _: None
    ) -> list[EpisodeGroup]:
        """Play each task `size` times.  `done` hears of every finished episode.  Groups are numbered from `start`; their number is
        part of an episode's id, and with `seed` decides what is sampled.

        Raises `InfrastructureError` if more than half of all episodes failed for lack of infrastructure: then something is wrong
        for which no statistics should be made; `ValueError` if no context had room for an action.
        """
        gate = asyncio.Semaphore(self.concurrency)
        groups = [EpisodeGroup(f"{index}:{task.id}", task, TrajectoryTree()) for index, task in enumerate(tasks, start)]
        for group in groups:
            group.episodes = [Episode(f"{group.key}/{i}", group.task, group.tree) for i in range(size)]
        episodes = [episode for group in groups for episode in group.episodes]

        async def one(episode: Episode) -> None:
            async with gate:
                await self.play(episode, seed=stable_hash(seed, episode.id))
            done(episode)

        async with asyncio.TaskGroup() as running:
            for episode in episodes:
                running.create_task(one(episode))
        broken = [episode for episode in episodes if not episode.valid]
        if 2 * len(broken) > len(episodes):
            first = next(f for f in broken[0].failures if f.kind is FailureKind.INFRASTRUCTURE)
            raise InfrastructureError(
                f"{len(broken)} of {len(episodes)} episodes failed, first {broken[0].id} in {first.where}:\n{first.message}"
            )
        if episodes and all(e.stop is StopReason.TOKEN_LIMIT and not e.actions for e in episodes):
            raise ValueError(
                f"none of {len(episodes)} episodes had room for an action, first {episodes[0].id}: {episodes[0].failures[0].message} "
                "(raise max_context, or give shorter tasks)"
            )
        return groups

    async def play(self, episode: Episode, *, seed: int) -> None:
        """Run the agent program for one episode and class what goes wrong."""
        started = time.monotonic()
        await _classed(episode, self._run(episode, seed))
        on_path = {span for action in episode.actions for span in episode.tree.path(action)[:-1]}
        episode.leaves = [action for action in episode.actions if action not in on_path]
        episode.seconds = time.monotonic() - started

    async def _run(self, episode: Episode, seed: int) -> None:
        parts = episode, self.environment(), self.policies
        session = Session(*parts, seed=seed, limits=self.limits)
        if self.value_rollouts:
            session = ValuedSession(*parts, seed=seed, limits=self.limits, program=self.program, rollouts=self.value_rollouts)
        try:
            await _classed(episode, self.program(session))
        finally:
            await _classed(episode, session.close())


async def _classed(episode: Episode, work: Awaitable[None]) -> None:
    """Wait for `work`; what goes wrong becomes a failure of the episode."""
    try:
        await work
    except Exception as raised:
        error = _cause(raised)
        kind, where, said = FailureKind.INFRASTRUCTURE, "environment or engine", str(error)
        if isinstance(error, ContextFull):
            kind, where = FailureKind.BUDGET, "policy"
        elif not isinstance(error, InfrastructureError):
            where, said = "environment or agent program", "".join(traceback.format_exception(error, limit=-4))
        episode.failures.append(Failure(kind, where, said))
        episode.stop = StopReason.TOKEN_LIMIT if kind is FailureKind.BUDGET else StopReason.FAILED


def _cause(error: Exception) -> Exception:
    """Of the errors of concurrent branches (an exception group) one that is no full context, if there is one."""
    if not isinstance(error, ExceptionGroup):
        return error
    worse = error.split(ContextFull)[1]
    return _cause((worse or error).exceptions[0])
