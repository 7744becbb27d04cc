"""What a comparison within a group follows, by the size of the group, where an episode is won with chance p and lost otherwise.

Written down for k wins of n, k binomial: no advantage is computed twice.  p is the sigmoid of one logit, dp = p (1 - p); each number
is the expected gradient for one episode.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import comb, sqrt

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import Columns, columns
from sojourn.objectives.presets import preset


def wins_of(*wins: int, size: int) -> Columns:
    """A batch of groups, the first so many episodes of each won."""
    scripts = [[Script([Turn(1)], final=float(i < k), success=i < k) for i in range(size)] for k in wins]
    return columns([group(each, key=str(number)) for number, each in enumerate(scripts)])


def chance(k: int, n: int, p: float) -> float:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def followed(name: str, size: int, p: float, groups: int) -> float:
    """Expected gradient of an algorithm's credit: the mean over episodes of A (won - p)."""
    total = 0.0
    for wins in product(range(size + 1), repeat=groups):
        table = wins_of(*wins, size=size)
        credit = preset(name).credit
        assert credit is not None
        slope = np.mean(credit(table) * (table.return_E - p))
        total += float(np.prod([chance(k, size, p) for k in wins]) * slope)
    return total


def of_one_group(formula: Callable[[int, int], float], n: int, p: float) -> float:
    return sum(chance(k, n, p) * formula(k, n) for k in range(n + 1)) / n


CLOSED: dict[str, Callable[[int, float], float]] = {
    "dr_grpo": lambda n, p: (n - 1) / n * p * (1 - p),
    "gpg": lambda n, p: (n - 1) / n * p * (1 - p),
    "opo": lambda n, p: (n - 1) / n * p * (1 - p),
    "reinforce": lambda n, p: p * (1 - p),
    "grpo": lambda n, p: of_one_group(lambda k, n: sqrt(k * (n - k) * (n - 1) / n), n, p),
    # the gradient of sum_j pass@j / j over j < n: a success counts 1 / p in the limit
    "maxrl": lambda n, p: sum(j * (1 - p) ** (j - 1) * p * (1 - p) / j for j in range(1, n)),
    # the best leads only where it is the only one; the deviation is 1 / sqrt n
    "passk_best": lambda n, p: sqrt(n) * p * (1 - p) ** n,
    "tree_rpo": lambda n, p: of_one_group(lambda k, n: sqrt(k * (n - k)), n, p),
}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("name", CLOSED)
def test_one_group(name: str, size: int, p: float) -> None:
    assert followed(name, size, p, groups=1) == pytest.approx(CLOSED[name](size, p), rel=1e-5)


def spread(wins: tuple[int, ...], n: int) -> float:
    """Sum over groups of the squares about the group's mean."""
    return sum(k * (n - k) / n for k in wins)


BATCHES: dict[str, Callable[[tuple[int, ...], int], float]] = {
    # sums over the batch of A (won - p), given the wins of each group
    "gpg": lambda wins, n: spread(wins, n) * len(wins) / max(sum(0 < k < n for k in wins), 1),
    "lite_ppo": lambda wins, n: spread(wins, n) / deviation(sum(wins), n * len(wins)) if 0 < sum(wins) < n * len(wins) else 0.0,
    "reinforce_pp_baseline": lambda wins, n: sqrt(spread(wins, n) * (n * len(wins) - 1)),
    "reinforce_baseline": lambda wins, n: spread((sum(wins),), n * len(wins)),
    "grpo": lambda wins, n: sum(sqrt(k * (n - k) * (n - 1) / n) for k in wins),
}


def deviation(wins: int, n: int) -> float:
    return sqrt(wins * (n - wins) / n / (n - 1))


@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_three_groups(name: str, p: float) -> None:
    """What is divided by a number of the whole batch weighs its groups alike; what is divided in each group does not."""
    n, total = 3, 0.0
    for wins in product(range(n + 1), repeat=3):
        total += float(np.prod([chance(k, n, p) for k in wins])) * BATCHES[name](wins, n) / (3 * n)
    assert followed(name, n, p, groups=3) == pytest.approx(total, rel=1e-5)
