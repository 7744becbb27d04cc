"""Worlds with several agents: a partially observable stochastic game.

Who acts now is the world's business: one agent (a board game), some, or all at once (a matrix game).  Each agent gets observations and
rewards of its own, so that what one must not see stays hidden, and a zero-sum game is two returns that are never added up.

    rock, paper, scissors          reset -> {a: "choose", b: "choose"}        acting() == ("a", "b")
                                   step({a: rock, b: paper}) -> rewards {a: -1, b: +1}, terminated
    a game of cards                reset -> {a: "you hold K", b: "you hold Q"}  acting() == ("a",)
                                   step({a: bet}) -> observations {b: "a bets"}  acting() == ("b",)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sojourn.core.environment import Action, Observation
from sojourn.core.message import ToolSpec
from sojourn.core.outcome import Failure, Reward
from sojourn.core.task import Task


@dataclass(frozen=True, slots=True)
class JointTransition:
    """The world's answer to the actions of those who acted.

    observations: by agent; who is not named has seen nothing new.  rewards: by agent, for whatever they did so far; also to agents who
    did not act now.  `info["success"]`, or `info["success/<agent>"]`, says whether the task is solved.
    """

    observations: Mapping[str, Observation] = field(default_factory=dict)
    rewards: Mapping[str, float | Reward] = field(default_factory=dict)
    terminated: bool = False
    truncated: bool = False
    failures: tuple[Failure, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


class MultiAgentEnvironment(ABC):
    """A world for one episode of several agents.  Raise `InfrastructureError` when something broke that is not the policies' doing."""

    agents: Sequence[str]
    """All that may act, in a fixed order; known before `reset`."""
    zero_sum: bool = False
    """Whether what the agents earn adds up to 0, step by step."""

    def tools(self, agent: str) -> Sequence[ToolSpec]:
        """The tools of an agent; none by default."""
        return ()

    @abstractmethod
    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        """Start the episode: what each agent sees first.  Equal task and seed give an equal world."""

    @abstractmethod
    def acting(self) -> Sequence[str]:
        """Who acts now.  At least one, until the end."""

    @abstractmethod
    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        """Take the actions of all who act now."""

    def legal(self, agent: str) -> Sequence[str]:
        """The texts that are valid actions of an agent who acts now; none where they cannot be listed."""
        return ()

    async def truncate(self) -> JointTransition:
        """The episode is cut here, at a limit that is not the world's; see `Environment.truncate`."""
        return JointTransition(truncated=True)

    async def close(self) -> None:  # noqa: B027 (optional, on purpose)
        """Give back what the episode held."""
