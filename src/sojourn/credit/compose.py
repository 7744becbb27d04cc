"""Credit made of credit: sums, and transforms of its advantages afterwards.

REINFORCE++            token returns, whitened over the batch's tokens                               [arXiv 2501.03262, eq. 4 and 5]
REINFORCE++-baseline   group mean subtracted, then whitened over the batch's tokens                  [arXiv 2501.03262, eq. 6 and 7]
GDPO                   each reward term normalised in the group, weighted sum, then over the batch   [arXiv 2601.05242]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np

from sojourn.credit.columns import Columns, Credit, Floats
from sojourn.credit.formula import formula
from sojourn.credit.gae import critic_targets
from sojourn.credit.group import Normaliser
from sojourn.credit.needs import Composite, reads
from sojourn.credit.ranges import checked, weighed, within
from sojourn.credit.recursion import backward_tokens
from sojourn.credit.transforms import Transform

ACROSS = Normaliser(mean="batch", deviation="batch")


@checked
class TokenReturns:
    """Return that follows each token, over all later turns of its path.  No baseline."""

    formula: ClassVar[str] = "A_t = G_t,  G_t = r_t + gamma G_{t+1}"

    gamma: float = 1.0
    """Discount for each token."""

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1))

    def __call__(self, columns: Columns) -> Floats:
        reward = columns.reward_T
        returns = backward_tokens(columns, reward, np.full(len(reward), self.gamma))
        return np.where(columns.valid_E[columns.episode_S[columns.row_T]], returns, 0.0)


@checked
class Sum(Composite):
    """Weighted sum of several credits."""

    parts: tuple[Credit, ...]
    """What is added."""
    weights: tuple[float, ...]
    """One weight for each part."""

    def __post_init__(self) -> None:
        weighed(self)

    @property
    def made_of(self) -> tuple[object, ...]:
        return self.parts

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): as the first part that reads values says."""
        return critic_targets(next((part for part in self.parts if "value_T" in reads(part)), None), columns)

    @property
    def formula(self) -> str:
        total = " + ".join(f"{weight:g} A^{number}" for number, weight in enumerate(self.weights, 1))
        return "\n".join([f"A_t = {total}", *(f"A^{number}: {formula(part)}" for number, part in enumerate(self.parts, 1))])

    def __call__(self, columns: Columns) -> Floats:
        total = np.zeros(int(columns.length_S.sum()))
        for part, weight in zip(self.parts, self.weights, strict=True):
            total += weight * part(columns)
        return total


@checked
class Then(Composite):
    """A credit followed by transforms of its advantages."""

    credit: Credit
    """Where the advantages come from."""
    transforms: tuple[Transform, ...]
    """`transform(columns, advantage_T) -> advantage_T`, in order."""

    @property
    def made_of(self) -> tuple[object, ...]:
        return (self.credit, *self.transforms)

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): as for the credit before the transforms."""
        return critic_targets(self.credit, columns)

    @property
    def formula(self) -> str:
        return "\n".join([formula(self.credit), *(formula(each, "columns, A") for each in self.transforms)])

    def __call__(self, columns: Columns) -> Floats:
        advantage = self.credit(columns)
        for transform in self.transforms:
            advantage = transform(columns, advantage)
        return advantage


@checked
class GDPO:
    """Each reward term by itself against the group, so that no term drowns another by its scale.

    Raises ValueError for a weight of a term that no episode of the batch was paid.  In a batch without any signal, where nobody came so
    far as to be judged, a term may be missing.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each named term; a term that is not named has weight 1."""
    normaliser: Normaliser = Normaliser()
    """Used for each term in the group."""

    @property
    def formula(self) -> str:
        return (
            f"A^n = {self.normaliser.formula('R^n')} for each reward term n\n"
            f"A = {ACROSS.formula('S', batch='episodes of the batch')},  S = sum_n w_n A^n"
        )

    def refuses(self, size: int) -> str:
        return self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        each = {name: self.normaliser(value, columns.group_E, columns.valid_E) for name, value in columns.terms_E.items()}
        unknown = [name for name in self.weights if name not in each]
        if unknown and any(value.any() for value in each.values()):
            raise ValueError(
                f"GDPO: weights names '{unknown[0]}', but no episode was paid such a term (paid: {', '.join(each)}); correct the name, or let "
                "the environment pay it to every episode that it judges, 0 for one that earned nothing"
            )
        total = np.zeros(len(columns.final_E))
        for name, value in each.items():
            total += self.weights.get(name, 1.0) * value
        return columns.spread_episodes(ACROSS(total, columns.group_E, columns.valid_E))
