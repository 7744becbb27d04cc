"""Transforms: what is done to advantages after a credit has made them (`Then`).

Each is called as `transform(columns, advantage_T) -> advantage_T`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats
from sojourn.credit.group import Normaliser
from sojourn.credit.ranges import INF, checked, within

Transform: TypeAlias = Callable[[Columns, Floats], Floats]


def counted_tokens(columns: Columns) -> Bools:
    """Tokens that count in statistics over tokens: trained, and in a valid episode.  Shape (T,)."""
    return (columns.trained_S & columns.valid_E[columns.episode_S])[columns.row_T]


@checked
class Whiten:
    """Mean 0 and deviation 1 over the counted tokens of the batch."""

    centre: bool = True
    """Subtract the mean."""
    epsilon: float = 1e-8
    """Added to the deviation."""

    def __post_init__(self) -> None:
        within(self, epsilon=(0, INF))

    @property
    def formula(self) -> str:
        return f"A_t <- {self._normaliser.formula('A_t', batch='tokens of the batch')}"

    @property
    def _normaliser(self) -> Normaliser:
        return Normaliser(mean="batch" if self.centre else "none", deviation="batch", epsilon=self.epsilon)

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return self._normaliser(advantage_T, np.zeros(len(advantage_T), np.int64), counted_tokens(columns))


@checked
class Bounded:
    """Advantages clipped to +-limit."""

    formula: ClassVar[str] = "A_t <- clip(A_t, -limit, limit)"

    limit: float = 5.0
    """Largest size."""

    def __post_init__(self) -> None:
        within(self, limit=(0, INF))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.clip(advantage_T, -self.limit, self.limit)


@checked
class PositiveOnly:
    """Negative advantages become 0."""

    formula: ClassVar[str] = "A_t <- max(A_t, 0)"

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.maximum(advantage_T, 0.0)


@checked
class EntropyBonus:
    """A + min(alpha H, |A| / kappa), H detached: uncertain tokens weigh more, no sign flips.  [arXiv 2506.14758]"""

    formula: ClassVar[str] = "A_t <- A_t + min(alpha H_t, |A_t| / kappa)"
    reads: ClassVar[frozenset[str]] = frozenset({"entropy_T"})

    alpha: float = 0.4
    """Weight of the entropy, per nat."""
    kappa: float = 2.0
    """> 1; the bonus is at most |A| / kappa."""

    def __post_init__(self) -> None:
        within(self, alpha=(0, INF), kappa=(1e-9, INF))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        if columns.entropy_T is None:
            raise ValueError("EntropyBonus needs columns.entropy_T, the entropy at each action token")
        return advantage_T + np.minimum(self.alpha * columns.entropy_T, np.abs(advantage_T) / self.kappa)
