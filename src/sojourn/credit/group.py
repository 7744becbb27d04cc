"""Group-relative advantages: one normaliser covers most of the critic-free family.

A = (R - mean) / (deviation + epsilon), where mean and deviation are each taken over the group, the batch, or not at all.

    GRPO          mean group, deviation group            [DeepSeekMath, arXiv 2402.03300, sec. 4.1.2]
    Dr. GRPO      mean group, deviation none             [arXiv 2503.20783, sec. 3.2]
    RLOO          mean group, leave one out              [arXiv 2402.14740, sec. 2.3]
    Lite-PPO      mean group, deviation batch            [arXiv 2508.08221]
    REINFORCE     mean none or batch, deviation none

Statistics run over episodes, never over spans or contexts.  Invalid episodes leave them and get 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats, Ints
from sojourn.credit.needs import no_baseline
from sojourn.credit.ranges import INF, checked, within

Pool = Literal["group", "batch", "none"]


@checked
class Normaliser:
    """Centres and scales values.  Where nothing can be compared (a group of one, no spread) the result is exactly 0."""

    mean: Pool = "group"
    """What is subtracted: the mean of the group, of the batch, or nothing."""
    deviation: Pool = "group"
    """What it is divided by: the standard deviation of the group, of the batch, or nothing."""
    leave_one_out: bool = False
    """Leave a value out of its own mean; makes the baseline independent of the sample, raises |A| by n / (n - 1)."""
    unbiased: bool = True
    """Divide squares by n - 1, as the frameworks do, instead of n."""
    epsilon: float = 1e-6
    """Added to the deviation.  Raising it weakens groups with little spread."""

    def __post_init__(self) -> None:
        within(self, epsilon=(0, INF))

    def __call__(self, value_N: Floats, group_N: Ints, valid_N: Bools | None = None) -> Floats:
        """Normalise `value_N`, shape (N,), within `group_N`; entries that are not valid count nowhere and get 0.

        >>> Normaliser(deviation="none")(np.array([1.0, 0.0]), np.array([0, 0]))
        array([ 0.5, -0.5])
        """
        valid = np.ones(len(value_N), bool) if valid_N is None else valid_N
        result = np.zeros(len(value_N))
        result[valid] = self._normalise(value_N[valid].astype(np.float64), group_N[valid])
        return result

    def formula(self, x: str, group: str = "group", batch: str = "batch") -> str:
        """What it does to a value called `x`, with other words for the group and the batch if need be.

        >>> Normaliser(deviation="batch").formula("R")
        '(R - mean(R | group)) / (std(R | batch) + epsilon)'
        """
        words = {"group": group, "batch": batch}
        centred = x
        if self.mean != "none":
            others = "the others in the " if self.leave_one_out else ""
            centred = f"{x} - mean({x} | {others}{words[self.mean]})"
        if self.deviation == "none":
            return centred
        return f"{centred if centred == x else f'({centred})'} / (std({x} | {words[self.deviation]}) + epsilon)"

    def refuses(self, size: int) -> str:
        return no_baseline(size) if "group" in (self.mean, self.deviation) else ""

    def _normalise(self, value: Floats, group: Ints) -> Floats:
        """The normalised values of valid members; where all are equal exactly 0."""
        centred = value
        if self.mean != "none":
            bucket = _bucket(group, self.mean)
            centred = _centred(value, bucket)
            if self.leave_one_out:
                count = np.bincount(bucket)[bucket]
                centred = centred * count / np.maximum(count - 1, 1)
        if self.deviation == "none":
            return centred
        deviation = _deviation(value, _bucket(group, self.deviation), self.unbiased)
        return np.divide(centred, deviation + self.epsilon, out=np.zeros(len(value)), where=deviation > 0)


def _bucket(group: Ints, pool: Pool) -> Ints:
    """Consecutive bucket numbers."""
    if pool == "batch":
        return np.zeros(len(group), np.int64)
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _centred(value: Floats, bucket: Ints) -> Floats:
    """Value minus its bucket's mean; taken relative to one member, so that equal values give exactly 0."""
    shifted = value - anchor(value, bucket)
    mean = np.bincount(bucket, shifted) / np.bincount(bucket)
    return shifted - mean[bucket]


def anchor(value_N: Floats, bucket_N: Ints, chosen_N: Bools | None = None) -> Floats:
    """One of the chosen values of each bucket, shape (N,).  Baselines are taken relative to it, so that equal values give exactly 0."""
    chosen = np.ones(len(value_N), bool) if chosen_N is None else chosen_N
    one = np.zeros(bucket_N.max(initial=-1) + 1)
    one[bucket_N[chosen]] = value_N[chosen]
    return one[bucket_N]


def _deviation(value: Floats, bucket: Ints, unbiased: bool) -> Floats:
    """Standard deviation of each value's bucket; 0 for a bucket of one."""
    count = np.bincount(bucket)
    squares = np.bincount(bucket, _centred(value, bucket) ** 2)
    return np.sqrt(squares / np.maximum(count - unbiased, 1))[bucket]


@checked
class GroupRelative:
    """Advantage of each episode against its own group, given to all its tokens.  [DeepSeekMath, sec. 4.1.2]"""

    normaliser: Normaliser = Normaliser()
    """How returns are compared."""

    @property
    def formula(self) -> str:
        return f"A = {self.normaliser.formula('R')}"

    def refuses(self, size: int) -> str:
        return self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        return columns.spread_episodes(self.normaliser(columns.return_E, columns.group_E, columns.valid_E))


def grpo() -> GroupRelative:
    """Group mean and deviation."""
    return GroupRelative()


def dr_grpo() -> GroupRelative:
    """Group mean only."""
    return GroupRelative(normaliser=Normaliser(deviation="none"))


def rloo() -> GroupRelative:
    """Mean of the others."""
    return GroupRelative(normaliser=Normaliser(deviation="none", leave_one_out=True))
