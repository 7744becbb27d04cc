"""Rollouts: groups of episodes, all at once, each an agent program in its own environment.

Failures are classed here.  A full context is the policy's; what broke beneath is the infrastructure's, never a reward, and may be tried
again; an error of the user's own code stops the run, because its author must hear of it.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from sojourn.core import (
    BudgetSpent,
    Environment,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    InfrastructureError,
    MultiAgentEnvironment,
    Range,
    Standing,
    StopReason,
    Task,
    TrajectoryTree,
    UserCodeError,
    broke_beneath,
    check,
    named,
)
from sojourn.policy import Limits, Policy, Program, Session
from sojourn.policy.running import Runner, UserCode
from sojourn.policy.session import stable_hash
from sojourn.policy.values import ValuedSession


@dataclass(frozen=True, slots=True)
class Rollout:
    """How episodes are played.

    environment: makes a fresh world for one episode.  policies: by name; the one that is trained is "actor".
    concurrency: episodes in flight at most; raising it fills the engine's batch, and takes memory and tool processes.
    """

    environment: Callable[[], Environment | MultiAgentEnvironment]
    program: Program
    policies: Mapping[str, Policy]
    limits: Limits = Limits()
    concurrency: Annotated[int, Range(1)] = 64
    value_rollouts: Annotated[int, Range(0)] = 0
    """Continuations that estimate the value of each state (`policy.values`); 0 for none."""
    retries: Annotated[int, Range(0)] = 0
    """Times that an episode which the infrastructure broke is played again."""
    code: UserCode = field(default_factory=UserCode)
    """What is known of the user's code, over all rollouts of a run."""
    seats: Mapping[str, str] = field(default_factory=dict)
    """Which policy speaks for an agent, by the agent's name; "actor" for one that is not named."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What outlives an episode, by name (`Session.kept`)."""

    def __post_init__(self) -> None:
        check(self)

    async def groups(
        self,
        tasks: Sequence[Task],
        *,
        size: int,
        seed: int,
        start: int = 0,
        done: Callable[[Episode], None] = lambda _: None,
        policies: Sequence[Mapping[str, Policy]] = (),
    ) -> list[EpisodeGroup]:
        """Play each task `size` times.  `done` hears of every finished episode.  Groups are numbered from `start`; their number is
        part of an episode's id, and with `seed` decides what is sampled.  policies: of each group, if not all meet the same.

        Raises `UserCodeError` if the user's code raised errors of its own, more often than `code.max_errors`; `InfrastructureError` if
        more than half of all episodes failed for lack of infrastructure: then something is wrong for which no statistics should be
        made; `ValueError` if no context had room for an action.
        """
        gate = asyncio.Semaphore(self.concurrency)
        groups = [EpisodeGroup(f"{index}:{task.id}", task, TrajectoryTree()) for index, task in enumerate(tasks, start)]
        for group in groups:
            group.episodes = [Episode(f"{group.key}/{i}", group.task, group.tree) for i in range(size)]
        episodes = [episode for group in groups for episode in group.episodes]

        cast = {id(group.tree): each for group, each in zip(groups, policies, strict=True)} if policies else {}

        async def one(episode: Episode) -> None:
            async with gate:
                here = replace(self, policies=cast[id(episode.tree)]) if cast else self
                await here.play(episode, seed=stable_hash(seed, episode.id))
            done(episode)

        try:
            async with asyncio.TaskGroup() as running:
                for episode in episodes:
                    running.create_task(one(episode))
        except ExceptionGroup as errors:
            raise _first(errors) from None
        self._refuse(episodes)
        return groups

    def _refuse(self, episodes: Sequence[Episode]) -> None:
        """Raise for a rollout that says nothing."""
        broken = [(e, f) for e in episodes for f in e.failures if f.effect is Standing.NO_RESULT]
        if 2 * len({id(episode) for episode, _ in broken}) > len(episodes):
            episode, first = broken[0]
            raise InfrastructureError(
                f"{sum(not e.valid for e in episodes)} of {len(episodes)} episodes failed, first {episode.id} in {first.where}:\n{first.message}"
            )
        if episodes and all(e.stop is StopReason.TOKEN_LIMIT and not e.actions for e in episodes):
            raise ValueError(
                f"none of {len(episodes)} episodes had room for an action, first {episodes[0].id}: {episodes[0].failures[0].message} "
                "(raise max_context, or give shorter tasks)"
            )

    async def play(self, episode: Episode, *, seed: int) -> None:
        """Run the agent program for one episode and class what goes wrong.  Raises `UserCodeError`, see `groups`."""
        started = time.monotonic()
        await self._run(episode, seed)
        while not episode.valid and episode.attempts <= self.retries and not _of(episode, FailureKind.CODE):
            episode.actions, episode.reward, episode.paid = [], {}, {}
            episode.info, episode.failures, episode.stop = {}, [], None
            episode.attempts += 1
            await self._run(episode, seed)
        on_path = {span for action in episode.actions for span in episode.tree.path(action)[:-1]}
        episode.leaves = [action for action in episode.actions if action not in on_path]
        episode.seconds = time.monotonic() - started
        if bugs := _of(episode, FailureKind.CODE):
            self.code.errors += 1
            if self.code.errors > self.code.max_errors:
                raise UserCodeError(
                    f"episode {episode.id}, task '{episode.task.id}': {bugs[0].where} raised an error of its own:\n{bugs[0].message}"
                    "(correct it; or let a run go on in spite of so many such episodes with max_errors)"
                )

    async def _run(self, episode: Episode, seed: int) -> None:
        """One try: make the world, play, score what stands where a budget ended, and close; failures go into the episode."""
        runner = Runner(self.code, f"episode {episode.id}")
        session: Session | None = None

        async def play() -> None:
            nonlocal session
            world = await runner.call(self.environment, seconds=self.limits.step_seconds)
            session = self._session(episode, world, seed, runner)
            try:
                await self.program(session)
            except Exception as error:
                spent = _first(error)  # of several, if branches ran concurrently
                if not isinstance(spent, BudgetSpent):
                    raise
                episode.failures.append(Failure(FailureKind.BUDGET, "policy", str(spent)))
                await session.cut(spent.stop)
            if episode.stop is None:
                await session.cut(StopReason.RETURNED)
            for terms in (episode.reward, *episode.paid.values(), *(episode.tree[action].reward for action in episode.actions)):
                named(terms)  # a program may have written them itself

        try:
            await _classed(episode, play())
        finally:
            if session is not None:
                await _classed(episode, session.close(), closing=True)
            runner.close()

    def _session(self, episode: Episode, world: Environment | MultiAgentEnvironment, seed: int, runner: Runner) -> Session:
        parts: dict[str, Any] = {
            "seed": seed, "limits": self.limits, "runner": runner, "seats": self.seats, "kept": self.kept,
        }  # fmt: skip
        if not self.value_rollouts:
            return Session(episode, world, self.policies, **parts)
        return ValuedSession(episode, world, self.policies, **parts, program=self.program, rollouts=self.value_rollouts)


async def _classed(episode: Episode, work: Awaitable[None], *, closing: bool = False) -> None:
    """Wait for `work`; what goes wrong becomes a failure of the episode.  An episode that has ended stands even if its world does not
    close."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # the run is being stopped
            raise
        _fail(episode, FailureKind.INFRASTRUCTURE, "a wait in a tool or an environment was cancelled", closing)
    except Exception as raised:
        error = _first(raised)
        beneath = closing or broke_beneath(error)
        known = isinstance(error, InfrastructureError)
        text = str(error) if known else "".join(traceback.format_exception(error, limit=-4))
        _fail(episode, FailureKind.INFRASTRUCTURE if beneath else FailureKind.CODE, text, closing)


def _fail(episode: Episode, kind: FailureKind, text: str, closing: bool) -> None:
    """Note a failure; an episode that had ended well stands even if its world did not close."""
    stands = closing and episode.stop is not None and episode.valid
    where = "closing the environment" if closing else "environment, engine or agent program"
    episode.failures.append(Failure(kind, where, text, Standing.DEGRADED if closing else None))
    if not stands:
        episode.stop = StopReason.FAILED


def _of(episode: Episode, kind: FailureKind) -> list[Failure]:
    return [failure for failure in episode.failures if failure.kind is kind and failure.effect is Standing.NO_RESULT]


def _first(error: Exception) -> Exception:
    """Of the errors of concurrent branches (an exception group) the one that matters most: a bug, then what broke beneath."""
    if not isinstance(error, ExceptionGroup):
        return error
    flat = [_first(each) for each in error.exceptions]
    return min(flat, key=lambda each: (isinstance(each, BudgetSpent), broke_beneath(each)))
