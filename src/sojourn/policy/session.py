"""A session: one agent program playing one episode, recorded.

An agent program is an async function of a session.  What it samples through `session.act` is stored in the trajectory tree token
for token; what the world pays in `session.step` lands on the action that earned it; what fails is classed.  A program that needs
more (several contexts, a search, two policies) uses the same four calls: `reset`, `open`, `act`, `step`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from sojourn.core import (
    Action,
    Context,
    Environment,
    Episode,
    InfrastructureError,
    Message,
    Observation,
    Reward,
    StateKey,
    StopReason,
    Task,
    ToolSpec,
    assistant,
    named,
)
from sojourn.phases import phase
from sojourn.policy.policy import Policy

T = TypeVar("T")


def stable_hash(*parts: object) -> int:
    """A 63-bit hash that is the same in every process."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an episode may use."""

    max_turns: int = 8
    """Environment steps; then the episode is truncated with `StopReason.TURN_LIMIT`."""
    step_seconds: float = 120.0
    """Deadline of one reset or step; past it the infrastructure is at fault, not the policy."""


Program = Callable[["Session"], Awaitable[None]]
"""An agent program.  It returns when the episode is over."""


class Session:
    """What an agent program holds: the world, the policies, and the episode being recorded."""

    def __init__(
        self, episode: Episode, environment: Environment, policies: Mapping[str, Policy], *, seed: int, limits: Limits
    ) -> None:
        self.episode = episode
        self.environment = environment
        self.policies = policies
        self.seed = seed
        self.limits = limits
        self._acts = 0
        self._steps = 0

    @property
    def task(self) -> Task:
        return self.episode.task

    @property
    def done(self) -> bool:
        return self.episode.stop is not None

    async def reset(self, *, seed: int | None = None) -> Observation:
        """Start the world.  All episodes of a group get the same world seed."""
        world_seed = self.task_seed if seed is None else seed
        return await self._deadline(self.environment.reset(self.task, seed=world_seed), "reset")

    @property
    def task_seed(self) -> int:
        """The world's seed: a function of the task alone, so that a group shares its world."""
        return stable_hash(self.task.id)

    async def close(self) -> None:
        """Let the world give back what it holds; the caller of the program does it."""
        await self._deadline(self.environment.close(), "close")

    def open(
        self,
        start: Observation | Sequence[Message],
        *,
        policy: str = "actor",
        agent: str = "agent",
        tools: Sequence[ToolSpec] | None = None,
        source: Context | None = None,
    ) -> Context:
        """Open a context on the given messages; with `source`, as a rewrite of that one."""
        messages = start.messages if isinstance(start, Observation) else tuple(start)
        return self.episode.tree.new_context(
            messages,
            renderer=self.policies[policy].renderer,
            tools=self.environment.tools if tools is None else tools,
            agent=agent,
            source=source,
        )

    async def act(self, context: Context, *, policy: str = "actor", legal: Sequence[str] = ()) -> tuple[Context, Action]:
        """Let a policy speak; with `legal`, one of these texts and nothing else.  Acting twice from one context makes siblings."""
        seed = stable_hash(self.seed, self._acts)
        self._acts += 1
        anchor = self.environment.state_key() if isinstance(self.environment, StateKey) else None
        child, action = await self.policies[policy].act(context, seed=seed, anchor=anchor, legal=legal)
        self.episode.actions.append(child.span)
        return child, action

    def say(self, context: Context, action: Action, *, policy: str = "actor") -> Context:
        """Put `action` into a policy's mouth: a demonstration.  It counts as an action of the episode, without log-probabilities."""
        prompt = context.prompted()
        tokens = self.policies[policy].renderer.as_sampled(action.text)
        child = prompt.force(tokens, assistant(action.text, action.calls), policy=policy)
        self.episode.actions.append(child.span)
        return child

    async def step(self, context: Context, action: Action) -> Observation:
        """Give the action that ended `context` to the world; the reward lands on it."""
        transition = await self._deadline(self.environment.step(action), "step")
        self.reward(context, transition.reward)
        self.episode.failures.extend(transition.failures)
        self.episode.info.update(transition.info)
        self._steps += 1
        if transition.terminated:
            self.stop(StopReason.TERMINATED)
        elif transition.truncated:
            self.stop(StopReason.TRUNCATED)
        elif self._steps >= self.limits.max_turns:
            self.stop(StopReason.TURN_LIMIT)
        return transition.observation

    def reward(self, context: Context, reward: float | Reward) -> None:
        """Pay `reward` to the action that ended `context`."""
        terms = context.tree[context.span].reward
        for name, value in named(reward).items():
            terms[name] = terms.get(name, 0.0) + value

    def stop(self, reason: StopReason) -> None:
        """End the episode."""
        self.episode.stop = reason

    async def _deadline(self, work: Awaitable[T], what: str) -> T:
        try:
            async with asyncio.timeout(self.limits.step_seconds) as deadline:
                with phase("tools"):
                    return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise InfrastructureError(
                f"episode {self.episode.id}: environment {type(self.environment).__name__}.{what} gave no answer in "
                f"{self.limits.step_seconds:g} s (raise limits.step_seconds)"
            ) from error
