"""Credit made of credit: sums, and what is done to advantages afterwards.

REINFORCE++            token returns, whitened over the batch's tokens                       [arXiv 2501.03262]
REINFORCE++-baseline   group mean subtracted, then whitened over the batch's tokens          [arXiv 2501.03262]
GDPO                   each reward term normalised in the group, weighted sum, then over the batch   [arXiv 2601.05242]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sojourn.credit.columns import Bools, Columns, Credit, Floats
from sojourn.credit.group import Normaliser
from sojourn.credit.recursion import backward_tokens


def counted_tokens(columns: Columns) -> Bools:
    """Tokens that count in statistics over tokens: trained, and in a valid episode.  Shape (T,)."""
    return (columns.trained_S & columns.valid_E[columns.episode_S])[columns.row_T]


@dataclass(frozen=True, kw_only=True)
class TokenReturns:
    """Return that follows each token, over all later turns of its path: G_t = r_t + gamma G_{t+1}.  No baseline."""

    gamma: float = 1.0
    """Discount for each token."""

    def __call__(self, columns: Columns) -> Floats:
        reward = columns.reward_T
        returns = backward_tokens(columns, reward, np.full(len(reward), self.gamma))
        return np.where(columns.valid_E[columns.episode_S[columns.row_T]], returns, 0.0)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Weighted sum of several credits."""

    parts: tuple[Credit, ...]
    """What is added."""
    weights: tuple[float, ...]
    """One weight for each part."""

    def __call__(self, columns: Columns) -> Floats:
        total = np.zeros(int(columns.length_S.sum()))
        for part, weight in zip(self.parts, self.weights, strict=True):
            total += weight * part(columns)
        return total


Transform = Callable[[Columns, Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class Then:
    """A credit followed by transforms of its advantages."""

    credit: Credit
    """Where the advantages come from."""
    transforms: tuple[Transform, ...]
    """`transform(columns, advantage_T) -> advantage_T`, in order."""

    def __call__(self, columns: Columns) -> Floats:
        advantage = self.credit(columns)
        for transform in self.transforms:
            advantage = transform(columns, advantage)
        return advantage


@dataclass(frozen=True, kw_only=True)
class Whiten:
    """Mean 0 and deviation 1 over the counted tokens of the batch."""

    centre: bool = True
    """Subtract the mean."""
    epsilon: float = 1e-8
    """Added to the deviation."""

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        normaliser = Normaliser(mean="batch" if self.centre else "none", deviation="batch", epsilon=self.epsilon)
        return normaliser(advantage_T, np.zeros(len(advantage_T), np.int64), counted_tokens(columns))


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """Advantages clipped to +-limit."""

    limit: float = 5.0
    """Largest size."""

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.clip(advantage_T, -self.limit, self.limit)


@dataclass(frozen=True, kw_only=True)
class PositiveOnly:
    """Negative advantages become 0."""

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.maximum(advantage_T, 0.0)


@dataclass(frozen=True, kw_only=True)
class EntropyBonus:
    """A + min(alpha H, |A| / kappa), H detached: uncertain tokens weigh more, no sign flips.  [arXiv 2506.14758]"""

    alpha: float = 0.4
    """Weight of the entropy, per nat."""
    kappa: float = 2.0
    """> 1; the bonus is at most |A| / kappa."""

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        if columns.entropy_T is None:
            raise ValueError("EntropyBonus needs columns.entropy_T, the entropy at each action token")
        return advantage_T + np.minimum(self.alpha * columns.entropy_T, np.abs(advantage_T) / self.kappa)


@dataclass(frozen=True, kw_only=True)
class GDPO:
    """Each reward term by itself against the group, so that no term drowns another by its scale."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each named term; a term that is not named has weight 1."""
    normaliser: Normaliser = Normaliser()
    """Used for each term in the group."""

    def __call__(self, columns: Columns) -> Floats:
        each = [
            self.weights.get(name, 1.0) * self.normaliser(value, columns.group_E, columns.valid_E)
            for name, value in columns.terms_E.items()
        ]
        total = np.sum([np.zeros(len(columns.final_E)), *each], axis=0)
        return columns.spread_episodes(Normaliser(mean="batch", deviation="batch")(total, columns.group_E, columns.valid_E))
