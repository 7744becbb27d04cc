"""The environment: a partially observable Markov decision process whose actions are text and tool calls.

An environment owns the hidden state, hands out observations, takes actions and pays rewards.  A prompt with a reward function is
the same thing with horizon 1.  One instance lives one episode.  What an environment can do beyond `reset` and `step` is a
separate protocol, asked for with `isinstance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sojourn.core.message import Message, ToolCall, ToolSpec, user
from sojourn.core.outcome import Failure, Reward
from sojourn.core.task import Task
from sojourn.core.text import settle


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy gets to see: messages, usually one.  After an end it may be empty."""

    messages: tuple[Message, ...] = ()

    @classmethod
    def of(cls, content: str | Message | Sequence[Message]) -> Observation:
        """An observation from a text (said by the user), a message, or several."""
        if isinstance(content, str):
            return cls((user(content),))
        return cls((content,)) if isinstance(content, Message) else cls(tuple(content))


@dataclass(frozen=True, slots=True)
class Action:
    """What the policy said: the text as it was sampled, and the tool calls that the action protocol read in it.

    `answer` is the text meant for the world: the protocol's answer field where it has one, else the text without its calls.
    `fault` is set when the text was no valid action; the environment should tell the policy what it says.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    answer: str | None = None
    fault: Failure | None = None

    def __post_init__(self) -> None:
        settle(self, "text", "answer")


@dataclass(frozen=True, slots=True)
class Transition:
    """The world's answer to an action.

    `terminated`: an end state, no future.  `truncated`: the world stops here although a future existed.  `reward` belongs to the
    action that was just taken.  `failures` reports what went wrong without ending the episode.
    """

    observation: Observation = Observation()
    reward: float | Reward = 0.0
    terminated: bool = False
    truncated: bool = False
    failures: tuple[Failure, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


class Environment(ABC):
    """A world for one episode.  Raise `InfrastructureError` when something broke that is not the policy's doing."""

    tools: Sequence[ToolSpec] = ()

    @abstractmethod
    async def reset(self, task: Task, *, seed: int) -> Observation:
        """Start the episode.  Equal task and seed give an equal world."""

    @abstractmethod
    async def step(self, action: Action) -> Transition:
        """Take one action."""

    async def truncate(self) -> Transition:
        """The episode is cut here, at a limit that is not the world's (turns, a full context): what stands, and what it is worth.  The
        reward is paid on top of what was paid; `info` may say whether the task is solved.  Nothing by default."""
        return Transition(reward={}, truncated=True)

    async def close(self) -> None:  # noqa: B027 (optional, on purpose)
        """Give back what the episode held: processes, files, connections."""


@runtime_checkable
class Restorable(Protocol):
    """Can go back to an earlier state (tree search, branching, Monte-Carlo values).  Both may be coroutines."""

    def snapshot(self) -> object: ...
    def restore(self, snapshot: object) -> object: ...


@runtime_checkable
class LegalActions(Protocol):
    """Can enumerate the texts that are valid actions now."""

    def legal_actions(self) -> Sequence[str]: ...


@runtime_checkable
class StateKey(Protocol):
    """Has a hashable key of the visible state, equal exactly when the state is (step-level grouping)."""

    def state_key(self) -> Hashable: ...


@runtime_checkable
class Oracle(Protocol):
    """Knows a right next action: validates the environment, makes demonstrations, draws the upper line in plots."""

    def oracle(self) -> Action: ...
