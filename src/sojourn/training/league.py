"""A league: former selves of a role, which of them it meets, and how it fares against each.

A policy that only ever plays its latest self forgets how to beat the others and runs in circles.  So snapshots of its trained weights are
kept, and a seat that is filled by `Former` selves is played by one of them, drawn anew for every group.
[fictitious self-play: Heinrich et al. 2015; prioritised: AlphaStar, Vinyals et al. 2019, f_hard(p) = (1 - p)^2 of the chance p to win]

    version      0     5     10    15 (now)
    played      12    20     31              groups against it
    score      0.9   0.6    0.5              mean of win 1, draw 1/2, loss 0
    chance    0.02  0.38   0.60              prioritised, of those kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within

NOW = -1
"""In place of a version: the policy as it is."""


@checked
class Former:
    """Whose former selves fill a seat, which are kept, and which are met."""

    of: str = "actor"
    """The role whose former selves these are."""
    every: int = 5
    """Steps between snapshots; lowering it keeps nearer opponents."""
    most: int = 8
    """Snapshots kept.  Raise it for a more varied field; each takes the memory of the trained weights."""
    keep: Literal["newest", "best"] = "newest"
    """Which stay beyond `most`, beside the first: the newest; or the newest one and those that the role beats least."""
    opponents: Literal["latest", "uniform", "prioritised"] = "prioritised"
    """The newest snapshot; any with equal chances; or those that it seldom beats more often."""
    power: float = 2.0
    """Of (1 - p) in prioritised; 0 is uniform, raising it looks for the hardest."""
    present: float = 0.0
    """Share of groups that meet the policy as it is now instead, on this seat without learning from it.  Self-play finds the equilibrium,
    former selves keep it from circling.  [AlphaStar's main agents: 0.35]"""

    def __post_init__(self) -> None:
        within(self, every=(1, INF), most=(1, INF), power=(0, INF), present=(0, 1))


@dataclass
class Record:
    """Games of the role against one former self.  score: the sum of win 1, draw 1/2, loss 0."""

    games: int = 0
    score: float = 0.0

    @property
    def rate(self) -> float:
        """Mean score; 1/2 where none was played."""
        return self.score / self.games if self.games else 0.5


class League:
    """The former selves of one role."""

    def __init__(self, former: Former) -> None:
        self.former = former
        self.weights: dict[int, dict[str, Tensor]] = {}
        """Trained weights by version."""
        self.records: dict[int, Record] = {}
        """By version, also of those that are kept no longer."""
        self.payoffs: dict[tuple[int, int], Record] = {}
        """By the newest snapshot of the role when it played, and the version that it met: a row of the payoff matrix each `every` steps."""

    def due(self, version: int) -> bool:
        return version % self.former.every == 0 and version not in self.weights

    def add(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of the weights, and drop what is beyond `most`."""
        self.weights[version] = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.records.setdefault(version, Record())
        while len(self.weights) > self.former.most:
            del self.weights[self._dropped()]

    def _dropped(self) -> int:
        """Of more snapshots than are kept the one that goes: the oldest after the first, or the one that is beaten most."""
        kept = sorted(self.weights)
        between = kept[1:-1] if self.former.most > 1 else kept[:1]
        return between[0] if self.former.keep == "newest" else max(between, key=lambda version: self.records[version].rate)

    def draw(self, count: int, draw: np.random.Generator) -> list[int]:
        """The versions that `count` groups meet; `NOW` for the policy as it is."""
        kept = sorted(self.weights)
        met = [kept[i] for i in draw.choice(len(kept), count, p=self.chances(kept)).tolist()]
        return [NOW if chance < self.former.present else version for version, chance in zip(met, draw.random(count), strict=True)]

    def chances(self, kept: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Chance of each version to be met; they add up to 1."""
        if self.former.opponents == "latest":
            return np.asarray([version == max(kept) for version in kept], np.float64)
        if self.former.opponents == "uniform":
            return np.full(len(kept), 1 / len(kept))
        hard = np.asarray([(1 - self.records[version].rate) ** self.former.power for version in kept])
        return hard / hard.sum() if hard.sum() > 0 else np.full(len(kept), 1 / len(kept))

    def record(self, version: int, returns: Sequence[float]) -> None:
        """Note games of the role against `version`, by the role's returns: above 0 is a win, 0 a draw."""
        score = sum(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in returns)
        for known in (self.records[version], self.payoffs.setdefault((max(self.weights), version), Record())):
            known.games += len(returns)
            known.score += score

    def describe(self) -> dict[str, float]:
        """Mean score against each version, for metrics."""
        return {f"league/{version}": round(known.rate, 4) for version, known in sorted(self.records.items()) if known.games}

    def state(self) -> dict[str, Any]:
        """All but the weights, fit for JSON."""
        return {
            "records": {str(version): [known.games, known.score] for version, known in self.records.items()},
            "payoffs": [[*pair, known.games, known.score] for pair, known in self.payoffs.items()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.records = {int(version): Record(int(games), float(score)) for version, (games, score) in state["records"].items()}
        self.payoffs = {(int(one), int(other)): Record(int(games), float(score)) for one, other, games, score in state["payoffs"]}

    def state_dict(self) -> dict[int, dict[str, Tensor]]:
        return self.weights

    def load_state_dict(self, state: Mapping[int, dict[str, Tensor]]) -> None:
        self.weights = {int(version): dict(weights) for version, weights in state.items()}


def standings(state: Mapping[str, Any]) -> dict[str, Any]:
    """The payoff matrix and the ratings of a league's `state`, for its page in the run folder.

    payoffs: rows of version, version that it met, games, mean score.  elo: rating by version; that of the first is 0.
    """
    found = {(str(one), str(other)): Record(games, score) for one, other, games, score in state["payoffs"] if one != other}
    ratings = elo(found, rounds=1000)
    first = ratings.get("0", 0.0)
    rows = [[one, other, games, round(score / games, 4)] for one, other, games, score in state["payoffs"] if games]
    return {
        "payoffs": rows,
        "elo": {name: round(rating - first, 1) for name, rating in sorted(ratings.items(), key=lambda i: int(i[0]))},
    }


def elo(payoffs: Mapping[tuple[str, str], Record], *, rounds: int = 200, k: float = 16.0) -> dict[str, float]:
    """Ratings, mean 0, that explain the mean scores of pairs best: the maximum of the Bradley-Terry likelihood, by gradient steps.

    400 points are odds of 10 to 1.  [Elo 1978; Bradley and Terry 1952]

    >>> found = elo({("a", "b"): Record(100, 75.0)}, rounds=2000)
    >>> round(found["a"] - found["b"])
    191
    """
    names = sorted({name for pair in payoffs for name in pair})
    rating = dict.fromkeys(names, 0.0)
    for _ in range(rounds):
        for (one, other), known in payoffs.items():
            expected = 1 / (1 + 10 ** ((rating[other] - rating[one]) / 400))
            change = k * (known.rate - expected)
            rating[one], rating[other] = rating[one] + change, rating[other] - change
    middle = sum(rating.values()) / max(len(rating), 1)
    return {name: value - middle for name, value in rating.items()}
