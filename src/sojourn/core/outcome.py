"""How an episode ends, what may fail, what that means for its data, and what it earned.

The one idea: a failure is data with a class.  A model's fault and an exhausted budget are the policy's doing and count as they
score; a failure of the infrastructure says nothing about the policy, so it never becomes a reward and leaves all statistics.

    who failed        where it is seen                       what it means for the episode (`Standing`)
    MODEL, BUDGET     a malformed call, a full context       VALID: it counts as it scores
    INFRASTRUCTURE    a sandbox died, a refused connection   NO_RESULT: leaves everything, may be tried again
                      the same, after the end (`close`)      DEGRADED: trained, and marked
    CODE              the user's reward raised an error      NO_RESULT, and the run stops (`TrainConfig.max_errors`)
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from enum import Enum, IntEnum
from http.client import HTTPException
from math import isfinite
from numbers import Real

from sojourn.core.text import settle


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
    RETURNED = "returned"
    """The agent program returned while the environment could have gone on."""
    FAILED = "failed"
    """A failure that is not the policy's ended the episode; see its failures."""

    @property
    def bootstraps(self) -> bool:
        """Whether the state after the last action has a value (everything that was cut, nothing that ended)."""
        return self in (StopReason.TRUNCATED, StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT)


class FailureKind(Enum):
    """Whose failure it was."""

    MODEL = "model"
    """The policy said something unusable (a malformed call, an unknown tool)."""
    BUDGET = "budget"
    """The policy ran out of tokens, turns or tool time that the task allows."""
    INFRASTRUCTURE = "infrastructure"
    """Something beneath broke (a sandbox died, a server did not answer)."""
    CODE = "code"
    """A reward, an environment, a tool or an agent program raised an error of its own: a bug, which its author must hear of."""


class Standing(IntEnum):
    """What an episode's data are good for, best first.  An episode stands as its worst failure says."""

    VALID = 0
    """It counts, and is trained."""
    DEGRADED = 1
    """Degraded but real: something broke that did not touch what was said and earned.  Trained, and marked."""
    UNUSABLE = 2
    """Complete but unusable: its return is real, so it keeps its place in the group's statistics; it is not trained."""
    NO_RESULT = 3
    """No valid result: it leaves means, deviations and denominators, and may be tried again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure: its class, where it happened (`tool 'python'`), and what was seen.

    standing: what it means for the episode; None for what its kind says.

    >>> Failure(FailureKind.INFRASTRUCTURE, "close", "the browser hung", Standing.DEGRADED).effect.name
    'DEGRADED'
    """

    kind: FailureKind
    where: str
    message: str
    standing: Standing | None = None

    @property
    def effect(self) -> Standing:
        """What it means for the episode."""
        if self.standing is not None:
            return self.standing
        lost = self.kind in (FailureKind.INFRASTRUCTURE, FailureKind.CODE)
        return Standing.NO_RESULT if lost else Standing.VALID

    def __post_init__(self) -> None:
        settle(self, "where", "message")


class InfrastructureError(RuntimeError):
    """Raised by environments, tools and engines when something beneath the policy broke.

    An episode that ends with it is kept as data with `StopReason.FAILED`; it is never given a reward.
    """


class BudgetSpent(RuntimeError):
    """Raised when a policy wants to go on and may not; a budget failure of the episode.  stop: what that means for the episode."""

    def __init__(self, message: str, stop: StopReason = StopReason.TOKEN_LIMIT) -> None:
        super().__init__(message)
        self.stop = stop


class ContextFull(BudgetSpent):
    """Raised by an engine or policy when a context has no room for another token."""


class UserCodeError(RuntimeError):
    """A reward, an environment, a tool or an agent program raised an error of its own.  The message holds the task and the traceback."""


WRONG_PATH = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors of the operating system that speak of a wrong path, not of a machine that broke."""


BENEATH = (
    TimeoutError, MemoryError, EOFError, HTTPException, BrokenExecutor, subprocess.TimeoutExpired,
)  # fmt: skip
"""What says that something beneath broke, beside errors of the operating system: a server that hung up in the middle of its answer, a
worker that died."""


def broke_beneath(error: BaseException) -> bool:
    """Whether an error says that something beneath the code broke: a refused or lost connection, a time-out, a full disk, no memory.

    Libraries wrap what they met (`httpx.ConnectError` holds a `ConnectionRefusedError`), so its causes are asked, too.

    >>> broke_beneath(ConnectionRefusedError()), broke_beneath(KeyError("x"))
    (True, False)
    """
    return any(
        isinstance(cause, (InfrastructureError, *BENEATH)) or (isinstance(cause, OSError) and not isinstance(cause, WRONG_PATH))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and the errors that it was raised from or while handling."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        seen.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return iter(seen)


Reward = Mapping[str, float]
"""Named reward terms; their sum is the reward."""


def named(reward: float | Reward, name: str = "reward") -> dict[str, float]:
    """A reward as named terms; a bare number gets `name`.  Raises `ValueError` for what is no finite number: None (a function that
    forgot to return), NaN, a text, numpy's bool, an array.

    >>> named(1)
    {'reward': 1.0}
    """
    terms = reward if isinstance(reward, Mapping) else {name: reward}
    for key, value in terms.items():
        if not isinstance(value, Real) or not isfinite(value):
            remedy = "return a number on every path" if value is None else "pay a finite int or float"
            raise ValueError(f"reward '{key}' is {value!r} ({type(value).__name__}), which is no finite number: {remedy}")
    return {str(key): float(value) for key, value in terms.items()}


def total(reward: Reward) -> float:
    return float(sum(reward.values()))
