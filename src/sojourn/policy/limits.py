"""What an episode may use, and what it has used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from sojourn.core import Range, check


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an episode may use."""

    max_turns: Annotated[int, Range(1)] = 8
    """Environment steps; then the episode is truncated with `StopReason.TURN_LIMIT`."""
    max_acts: Annotated[int, Range(0)] = 0
    """Actions that policies may sample, in all contexts together; then the same.  0 for no limit."""
    max_sampled: Annotated[int, Range(0)] = 0
    """Tokens that policies may sample, in all contexts together; then `StopReason.TOKEN_LIMIT`.  0 for no limit."""
    step_seconds: Annotated[float, Range(0, above=True)] = 120.0
    """Deadline of one reset or step; past it the infrastructure is at fault, not the policy."""
    observation_share: Annotated[float, Range(0, 1, above=True)] = 0.25
    """What one observation may take of the tokens that the engine holds; a longer one loses its middle.  Raise it for worlds that say
    much, seldom."""

    def __post_init__(self) -> None:
        check(self)


class Used(NamedTuple):
    """Actions that policies sampled, tokens of them, steps of the world."""

    acts: int
    sampled: int
    steps: int
