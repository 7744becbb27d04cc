"""Pass@k: credit for solving a task at least once in k tries.

best       the best of the group gets (R_max - R_second) / deviation, the others 0            [arXiv 2503.19595]
training   with N tries of which n fail, Rbar = 1 - C(n, k) / C(N, k), sigma = sqrt(Rbar (1 - Rbar)):
           A_pos = (1 - Rbar) / sigma,   A_neg = (1 - Rbar - C(n - 1, k - 1) / C(N - 1, k - 1)) / sigma
           [arXiv 2508.10751, eq. 11, 12, 14 and 15]
"""

from __future__ import annotations

from math import comb, sqrt
from typing import ClassVar

import numpy as np

from sojourn.credit.columns import Columns, Floats
from sojourn.credit.needs import no_baseline
from sojourn.credit.ranges import INF, checked, within


@checked
class PassKBest:
    """Only the best episode of a group is credited, with its lead over the second."""

    formula: ClassVar[str] = "A = (R_best - R_second) / (std(R | group) + epsilon) for the best of the group, 0 for the others"

    epsilon: float = 1e-6
    """Added to the deviation."""

    def __post_init__(self) -> None:
        within(self, epsilon=(0, INF))

    def refuses(self, size: int) -> str:
        return no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        advantage = np.zeros(len(columns.return_E))
        for members in _groups(columns):
            if len(members) < 2:
                continue
            order = members[np.argsort(columns.return_E[members])]
            lead = columns.return_E[order[-1]] - columns.return_E[order[-2]]
            if lead > 0:
                advantage[order[-1]] = lead / (np.std(columns.return_E[members], ddof=1) + self.epsilon)
        return columns.spread_episodes(advantage)


@checked
class PassK:
    """Advantage of an episode in the mean pass@k of all k-subsets of its group; 0 in groups of fewer than k.  Reads `success_E`."""

    k: int = 4
    """Tries; 1 is plain success, raising it rewards diversity."""
    scaled: bool = True
    """Divide by the deviation sigma."""

    @property
    def formula(self) -> str:
        over = " / sigma" if self.scaled else ""
        return (
            f"A = (1 - Rbar){over} for a success, (1 - Rbar - C(n - 1, k - 1) / C(N - 1, k - 1)){over} for a failure\n"
            "Rbar = 1 - C(n, k) / C(N, k),  n of N failed" + (",  sigma = sqrt(Rbar (1 - Rbar))" if self.scaled else "")
        )

    def __post_init__(self) -> None:
        within(self, k=(1, INF))

    def refuses(self, size: int) -> str:
        return f"pass@{self.k} with groups of {size}; raise the group size, or lower k" if size < self.k else no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        advantage = np.zeros(len(columns.return_E))
        for members in _groups(columns):
            if len(members) < self.k:  # the others broke, or a filter dropped them
                continue
            wins = columns.success_E[members]
            positive, negative = pass_k_advantages(len(members), int((~wins).sum()), self.k, scaled=self.scaled)
            advantage[members] = np.where(wins, positive, negative)
        return columns.spread_episodes(advantage)


def pass_k_advantages(tries: int, failures: int, k: int, *, scaled: bool = True) -> tuple[float, float]:
    """Advantages of a success and of a failure.  Raises ValueError if a group has fewer than k tries.

    >>> [round(x, 6) for x in pass_k_advantages(8, 6, 4)]
    [0.522233, -0.174078]
    """
    if tries < k:
        raise ValueError(f"pass@{k} needs at least {k} episodes in a group, found {tries}; raise the group size or lower k")
    rate = 1 - comb(failures, k) / comb(tries, k)
    sigma = sqrt(rate * (1 - rate)) if scaled else 1.0
    if rate in (0.0, 1.0):
        return 0.0, 0.0
    others_fail = comb(failures - 1, k - 1) / comb(tries - 1, k - 1)
    return (1 - rate) / sigma, (1 - rate - others_fail) / sigma


def _groups(columns: Columns) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows of the valid episodes of each group that has any."""
    valid = np.flatnonzero(columns.valid_E)
    return [valid[columns.group_E[valid] == group] for group in np.unique(columns.group_E[valid])]
