"""What the checks of numbers share: a case is a question with its answer, worked out without the code under test.

Answers stand in the docstrings of the checks, or are enumerated there in plain numpy from the definition in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sojourn.conformance.adapter import Adapter, Given, NotOffered
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup
from sojourn.credit.columns import Floats

TOLERANCE = 2e-5
"""Of advantages of size 1: implementations add 1e-6 or 1e-8 to deviations."""


class Case(NamedTuple):
    """Advantages that an algorithm must give, one for each action token."""

    groups: Sequence[EpisodeGroup]
    expected: ArrayLike
    given: Given = Given()


def hold(adapter: Adapter, cases: Mapping[str, Case]) -> list[str]:
    """Compare advantages, by algorithm; returns those that the adapter has.  Raises NotOffered if it has none."""
    reasons, held = [], []
    for name, case in cases.items():
        try:
            seen = adapter.advantages(name, case.groups, **case.given)
        except NotOffered as reason:
            reasons.append(str(reason))
            continue
        near(seen, case.expected, name)
        held.append(name)
    if not held:
        raise NotOffered(reasons[0])
    return held


def near(seen: ArrayLike, expected: ArrayLike, what: str, tolerance: float = TOLERANCE) -> None:
    """Equal, up to the tolerance relative to numbers above 1."""
    left, right = np.asarray(seen, np.float64), np.asarray(expected, np.float64)
    assert left.shape == right.shape, f"{what}: {left.shape} numbers instead of {right.shape}"
    wrong = ~(np.abs(left - right) <= tolerance * np.maximum(np.abs(right), 1.0))
    if wrong.any():
        place = int(np.flatnonzero(wrong.reshape(-1))[0])
        raise AssertionError(f"{what}: number {place} is {left.reshape(-1)[place]:.6g} instead of {right.reshape(-1)[place]:.6g}")


def answers(
    returns: Sequence[float], lengths: Sequence[int], *, key: str = "g", wins: Sequence[bool] | None = None
) -> EpisodeGroup:
    """A group of single answers, paid at the end."""
    won: Sequence[bool | None] = wins or [None] * len(returns)
    scripts = [Script([Turn(n)], final=r, success=w) for r, n, w in zip(returns, lengths, won, strict=True)]
    return group(scripts, key=key)


def said(groups: Iterable[EpisodeGroup], logp: Sequence[float]) -> None:
    """Set the log-probabilities of all action tokens, in order."""
    rest = list(logp)
    for each in groups:
        for episode in each.episodes:
            for span in episode.actions:
                size = len(each.tree[span].tokens)
                each.tree[span].logprobs, rest = np.array(rest[:size], np.float32), rest[size:]
    assert not rest, "as many log-probabilities as action tokens"


def spread(values: ArrayLike, lengths: Sequence[int] | NDArray[np.int64]) -> Floats:
    """Each value for as many tokens."""
    return np.repeat(np.asarray(values, np.float64), lengths)


def scaled(values: ArrayLike) -> Floats:
    """(x - mean) / deviation, squares divided by n - 1."""
    x = np.asarray(values, np.float64)
    return np.asarray((x - x.mean()) / x.std(ddof=1))


def following(rewards: ArrayLike, gamma: float = 1.0) -> Floats:
    """The discounted sum of what follows each step, from its definition."""
    r = np.asarray(rewards, np.float64)
    return np.array([sum(gamma**k * x for k, x in enumerate(r[t:])) for t in range(len(r))])
