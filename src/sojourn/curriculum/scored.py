"""Levels by a score: each gets a share of the tasks in proportion to what is worth training on there.

The one idea: a curriculum over levels is a number for each level, and a plain function says which.

    band(low, high)      1 where the success rate lies within, else 0                      [Florensa et al., arXiv 1705.06366]
    learnability         p (1 - p)                                                         [Rutherford et al., arXiv 2408.15099]
    progress             |fast mean of p - slow mean of p|                                 [Kanitscheider et al., arXiv 2106.14876]
    boltzmann(tau)       exp(Q / tau), Q <- (1 - a) Q + a mean |A|                         [SEC, arXiv 2505.14970]

    share = explore / levels + (1 - explore) score / sum of scores
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from typing import Any, TypeAlias

from sojourn.core import Task, TaskSource
from sojourn.curriculum.curriculum import Dealer, Outcome


@dataclass(slots=True)
class Level:
    """What is known of a level: exponential means over steps.  groups: how many it has had.

    success, slow: of the success rate, the second with a third of the rate; they begin at what is seen first.  advantage: of the mean
    absolute advantage, from 0.
    """

    success: float = 0.0
    slow: float = 0.0
    advantage: float = 0.0
    groups: int = 0

    def update(self, outcomes: Sequence[Outcome], rate: float) -> None:
        """Move towards the means over the groups of one step."""
        success = sum(outcome.success_rate for outcome in outcomes) / len(outcomes)
        advantage = sum(outcome.advantage for outcome in outcomes) / len(outcomes)
        first = not self.groups
        self.success += (1.0 if first else rate) * (success - self.success)
        self.slow += (1.0 if first else rate / 3) * (success - self.slow)
        self.advantage += rate * (advantage - self.advantage)
        self.groups += len(outcomes)


Score: TypeAlias = Callable[[Level], float]
"""What training on a level is worth; 0 or more, in units of its own."""


def band(low: float = 0.2, high: float = 0.8) -> Score:
    """1 where the success rate lies in [low, high], or is not known.

    >>> [band()(Level(success=p, groups=1)) for p in (0.1, 0.2, 0.9)]
    [0.0, 1.0, 0.0]
    """
    return lambda level: float(not level.groups or low <= level.success <= high)


def learnability(level: Level) -> float:
    """p (1 - p), the variance of a success; the most that there is where p is not known.

    >>> learnability(Level(success=0.2, groups=1))
    0.16000000000000003
    """
    return level.success * (1 - level.success) if level.groups else 0.25


def progress(level: Level) -> float:
    """How far the success rate has moved lately, up or down; 1 where nothing is known."""
    return abs(level.success - level.slow) if level.groups else 1.0


def boltzmann(tau: float = 0.5) -> Score:
    """exp(Q / tau): shares are a softmax.  Lower `tau` to go where advantages are largest."""
    return lambda level: exp(level.advantage / tau)


class Scored:
    """Shares the tasks among levels by their score.

    explore: share that all levels have in equal parts, so that none starves.  rate: of the means; raise it to forget sooner.
    Draws no random numbers: shares are kept to exactly over time, where the papers sample.
    """

    def __init__(
        self, source: TaskSource, score: Score = learnability, *, seed: int = 0, explore: float = 0.05, rate: float = 0.3
    ) -> None:
        for name, value in (("explore", explore), ("rate", rate)):
            if not 0 <= value <= 1:
                raise ValueError(f"Scored({name}={value}): it is a share; give a number in [0, 1]")
        self._score, self._explore, self._rate = score, explore, rate
        self._dealer = Dealer(source, seed)
        self._known = {level: Level() for level in source.levels}

    def shares(self) -> dict[str, float]:
        """Share of the coming tasks for each level; they add up to 1."""
        scores = {level: self._score(known) for level, known in self._known.items()}
        whole, even = sum(scores.values()), 1 / len(scores)
        return {
            level: self._explore * even + (1 - self._explore) * (score / whole if whole else even)
            for level, score in scores.items()
        }

    def next(self, count: int) -> list[Task]:
        return self._dealer.deal(count, self.shares())

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        by_level = defaultdict(list)
        for outcome in outcomes:
            by_level[outcome.task.level].append(outcome)
        for level, seen in by_level.items():
            if level in self._known:
                self._known[level].update(seen, self._rate)

    def state(self) -> dict[str, Any]:
        return {"levels": {level: asdict(known) for level, known in self._known.items()}, "dealer": self._dealer.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._dealer.load_state(state["dealer"])
        self._known = {level: Level(**known) for level, known in state["levels"].items()}

    def describe(self) -> dict[str, float | str]:
        shares = self.shares()
        shown: dict[str, float | str] = {"level": max(shares, key=lambda level: shares[level])}
        for level, known in self._known.items():
            shown[f"success/{level}"] = round(known.success, 3)
            shown[f"share/{level}"] = round(shares[level], 3)
        return shown
