"""A session: one agent program playing one episode, recorded.

An agent program is an async function of a session.  What it samples through `session.act` is stored in the trajectory tree token
for token; what the world pays in `session.step` lands on the action that earned it; what fails is classed.  A program that needs
more (several contexts, a search, two policies) uses the same four calls: `reset`, `open`, `act`, `step`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from sojourn.core import (
    Action,
    Context,
    Environment,
    Episode,
    Message,
    Observation,
    Reward,
    StateKey,
    StopReason,
    Task,
    ToolSpec,
    Transition,
    assistant,
    named,
)
from sojourn.policy.policy import Policy
from sojourn.policy.running import Runner, UserCode

T = TypeVar("T")


def stable_hash(*parts: object) -> int:
    """A 63-bit hash that is the same in every process."""
    pieces = (part if isinstance(part, bytes) else str(part).encode() for part in parts)
    digest = blake2b(b"\x1f".join(pieces), digest_size=8).digest()
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
    """What an agent program holds: the world, the policies, and the episode being recorded.

    runner: runs the world's code; one for the episode.
    """

    def __init__(
        self,
        episode: Episode,
        environment: Environment,
        policies: Mapping[str, Policy],
        *,
        seed: int,
        limits: Limits,
        runner: Runner | None = None,
    ) -> None:
        self.episode = episode
        self.environment = environment
        self.policies = policies
        self.seed = seed
        self.limits = limits
        self.runner = runner or Runner(UserCode(), f"episode {episode.id}")
        self._begun = False
        self._steps = 0
        self._drawn: Counter[int] = Counter()

    @property
    def task(self) -> Task:
        return self.episode.task

    @property
    def done(self) -> bool:
        return self.episode.stop is not None

    async def reset(self, *, seed: int | None = None) -> Observation:
        """Start the world.  All episodes of a group get the same world seed."""
        world_seed = self.task_seed if seed is None else seed
        observation: Observation = await self._ask(self.environment.reset, self.task, seed=world_seed)
        self._begun = True
        return observation

    @property
    def task_seed(self) -> int:
        """The world's seed: a function of the task alone, so that a group shares its world."""
        return stable_hash(self.task.id)

    async def close(self) -> None:
        """Let the world give back what it holds; the caller of the program does it."""
        await self._ask(self.environment.close)

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
        prompt = context.prompted()
        anchor = self.environment.state_key() if isinstance(self.environment, StateKey) else None
        child, action = await self.policies[policy].act(prompt, seed=self._draw(prompt, policy), anchor=anchor, legal=legal)
        self.episode.actions.append(child.span)
        return child, action

    def _draw(self, prompt: Context, purpose: str) -> int:
        """The seed of a sample: a function of what is sampled from and how often that was done before, so that the order in which
        concurrent branches arrive does not matter."""
        state = stable_hash(self.seed, purpose, prompt.agent, prompt.tokens.tobytes())
        self._drawn[state] += 1
        return stable_hash(state, self._drawn[state])

    def say(self, context: Context, action: Action, *, policy: str = "actor") -> Context:
        """Put `action` into a policy's mouth: a demonstration.  It counts as an action of the episode, without log-probabilities."""
        prompt = context.prompted()
        tokens = self.policies[policy].renderer.as_sampled(action.text)
        child = prompt.force(tokens, assistant(action.text, action.calls), policy=policy)
        self.episode.actions.append(child.span)
        return child

    async def step(self, context: Context, action: Action) -> Observation:
        """Give the action that ended `context` to the world; the reward lands on it."""
        transition = await self._ask(self.environment.step, action)
        self._note(transition)
        self.reward(context, transition.reward)
        self._steps += 1
        if transition.terminated:
            self.stop(StopReason.TERMINATED)
        elif transition.truncated:
            self.stop(StopReason.TRUNCATED)
        elif self._steps >= self.limits.max_turns:
            await self.cut(StopReason.TURN_LIMIT, context)
        return transition.observation

    def reward(self, context: Context, reward: float | Reward) -> None:
        """Pay `reward` to the action that ended `context`.  Raises `ValueError` for what is no finite number."""
        self._pay(context.tree[context.span].reward, reward)

    def stop(self, reason: StopReason) -> None:
        """End the episode."""
        self.episode.stop = reason

    async def cut(self, reason: StopReason, context: Context | None = None) -> None:
        """End the episode where it is, at a limit that is not the world's.  The world scores what stands; that is paid to the action that
        ended `context`, else to the last one."""
        self.stop(reason)
        if not self._begun:
            return
        transition = await self._ask(self.environment.truncate)
        self._note(transition)
        spans = self.episode.actions[-1:] if context is None else [context.span]
        self._pay(self.episode.tree[spans[0]].reward if spans else self.episode.reward, transition.reward)

    def _note(self, transition: Transition) -> None:
        self.episode.failures.extend(transition.failures)
        self.episode.info.update(transition.info)

    def _pay(self, terms: dict[str, float], reward: float | Reward) -> None:
        try:
            paid = named(reward)
        except ValueError as error:
            raise ValueError(f"episode {self.episode.id}: {error}") from None
        for name, value in paid.items():
            terms[name] = terms.get(name, 0.0) + value

    async def _ask(self, method: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
        answer: T = await self.runner.call(method, *arguments, seconds=self.limits.step_seconds, **named)
        return answer
