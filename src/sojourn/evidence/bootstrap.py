"""Intervals over seeds and tasks, which are crossed: every seed of every arm is measured on the same held-out tasks.

The one idea is the pigeonhole bootstrap [Owen 2007, arXiv 0712.1111; with weights in place of draws Owen and Eckles 2012, arXiv 1106.2125]:
a replicate draws seeds and tasks independently of each other, and a task that is drawn is drawn for all arms and seeds, so that what is
easy or hard in it cancels in a comparison.  The interval is from the 2.5 % to the 97.5 % quantile of the replicates.

Seeds: n - 1 of n with replacement, with which the variance of a mean is unbiased [Rao and Wu 1988, their m = n - 1]; drawing n of 3 would make
it a third too small.  With three seeds the interval is therefore no narrower than the seeds themselves lie apart.
Tasks: a weight for each from the exponential distribution of mean 1 [the Bayesian bootstrap, Rubin 1981].  Where tasks are solved or not, one more
that is and one more that is not are weighed in (each arm its own), which is the posterior Beta(solved + 1, failed + 1): without them 0 of 20
would be sure to be 0.
With one seed, the interval is over tasks alone and says nothing of other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sojourn.evidence.measured import Figure

REPLICATES = 2000
TAIL = 0.025


class Draws:
    """The seeds and tasks of each replicate; the same for the same seeds and tasks, whenever they are drawn."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        count = len(self.seeds)
        even = np.full(count, 1 / count)
        self.times = np.random.default_rng(0).multinomial(max(count - 1, 1), even, REPLICATES)
        """How often each seed is drawn, by replicate."""
        self._weights: dict[str, NDArray[np.float64]] = {}
        self._means: dict[int, NDArray[np.float64]] = {}

    def value(self, figure: Figure, arm: str, turn: int) -> float:
        """A figure of an arm in replicate `turn`: the mean over its tasks as they are drawn there."""
        if not figure.tasks:
            return figure.value
        if id(figure) not in self._means:
            weight_RK = np.stack([self._of(task) for task in (*figure.tasks, *self._prior(figure, arm))], 1)
            value_K = np.array([*figure.tasks.values(), *self._prior(figure, arm).values()])
            self._means[id(figure)] = weight_RK @ value_K / weight_RK.sum(1)
        return float(self._means[id(figure)][turn])

    @staticmethod
    def _prior(figure: Figure, arm: str) -> dict[str, float]:
        """What is weighed in beside the tasks, if they are rates of success."""
        rates = all(0 <= value <= 1 for value in figure.tasks.values())
        return {f"{arm}: one failed": 0.0, f"{arm}: one solved": 1.0} if rates else {}

    def _of(self, task: str) -> NDArray[np.float64]:
        """The weights of a task, by replicate: a function of its id."""
        if task not in self._weights:
            key = int.from_bytes(blake2b(task.encode(), digest_size=8).digest())
            self._weights[task] = np.random.default_rng(key).exponential(1.0, REPLICATES)
        return self._weights[task]


def interval(by_seed: Mapping[int, Sequence[float]], draws: Draws) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, from its value in each seed's replicates."""
    value_RS = np.array([by_seed[seed] for seed in draws.seeds]).T
    means = (value_RS * draws.times).sum(1) / draws.times.sum(1)
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(low), float(high)
