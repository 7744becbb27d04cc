"""How an episode ends, what may fail, and what it earned.

The one idea: a failure is data with a class.  A model's fault and an exhausted budget are the policy's doing and count as they
score; a failure of the infrastructure says nothing about the policy, so it never becomes a reward and leaves all statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class StopReason(Enum):
    """Why an episode ended."""

    TERMINATED = "terminated"
    """The environment reached an end state: there is no future, its value is 0."""
    TRUNCATED = "truncated"
    """The environment cut the episode short: there was a future, its value may be bootstrapped."""
    TURN_LIMIT = "turn_limit"
    """The agent program used up its turns."""
    TOKEN_LIMIT = "token_limit"
    """The context is full, or the episode's token budget is spent."""
    FAILED = "failed"
    """An infrastructure failure ended the episode; see its failures."""

    @property
    def bootstraps(self) -> bool:
        """Whether the state after the last action has a value (everything that was cut, nothing that ended)."""
        return self in (StopReason.TRUNCATED, StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT)


class FailureKind(Enum):
    """Whose failure it was.  Only INFRASTRUCTURE removes an episode from statistics."""

    MODEL = "model"
    """The policy said something unusable (a malformed call, an unknown tool)."""
    BUDGET = "budget"
    """The policy ran out of tokens, turns or tool time that the task allows."""
    INFRASTRUCTURE = "infrastructure"
    """Something beneath broke (a sandbox died, a server did not answer)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure: its class, where it happened (`tool 'python'`), and what was seen."""

    kind: FailureKind
    where: str
    message: str


class InfrastructureError(RuntimeError):
    """Raised by environments, tools and engines when something beneath the policy broke.

    An episode that ends with it is kept as data with `StopReason.FAILED`; it is never given a reward.
    """


class ContextFull(RuntimeError):
    """Raised by an engine or policy when a context has no room for another token; a budget failure of the episode."""


Reward = Mapping[str, float]
"""Named reward terms; their sum is the reward."""


def named(reward: float | Reward, name: str = "reward") -> dict[str, float]:
    """A reward as named terms; a bare number gets `name`.

    >>> named(1)
    {'reward': 1.0}
    """
    if isinstance(reward, Mapping):
        return {key: float(value) for key, value in reward.items()}
    return {name: float(reward)}


def total(reward: Reward) -> float:
    return float(sum(reward.values()))
