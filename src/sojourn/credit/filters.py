"""Filters: which episodes are trained.  Each is a frozen dataclass called as `filter(columns) -> keep_E`.

A filter looks at groups or episodes after they were scored.  `keep` applies several and counts what each of them dropped, so that
every episode ends as trained or filtered with a reason.  To fill the batch up again is the trainer's business
(`TrainConfig.sampling_rounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats

Filter: TypeAlias = Callable[[Columns], Bools]


@dataclass(frozen=True, kw_only=True)
class Valid:
    """Drop episodes that the infrastructure broke."""

    def __call__(self, columns: Columns) -> Bools:
        return columns.valid_E.copy()


@dataclass(frozen=True, kw_only=True)
class ZeroSignal:
    """Drop groups whose returns are all equal; with refilling this is DAPO's dynamic sampling.  [arXiv 2503.14476, eq. 11]"""

    def __call__(self, columns: Columns) -> Bools:
        return _spread(columns) > 0


@dataclass(frozen=True, kw_only=True)
class TopVariance:
    """Keep the share of groups whose returns vary most.  [StarPO-S, arXiv 2504.20073]"""

    share: float = 0.25
    """Share of groups to keep, rounded up; lowering it trains on fewer, more uncertain tasks."""

    def __call__(self, columns: Columns) -> Bools:
        spread = _spread(columns)
        groups, first = np.unique(columns.group_E, return_index=True)
        kept = int(np.ceil(self.share * len(groups)))
        chosen = groups[np.argsort(-spread[first], kind="stable")[:kept]]
        return np.isin(columns.group_E, chosen)


@dataclass(frozen=True, kw_only=True)
class Band:
    """Keep groups whose share of successes lies in [low, high].  [R-Zero, arXiv 2508.05004]"""

    low: float = 0.3
    """Below: too hard."""
    high: float = 0.8
    """Above: too easy."""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"Band(low={self.low}, high={self.high}): no group can lie in it; 0 <= low <= high <= 1")

    def __call__(self, columns: Columns) -> Bools:
        valid = columns.valid_E
        count, wins = np.bincount(columns.group_E, valid), np.bincount(columns.group_E, valid & columns.success_E)
        rate = (wins / np.maximum(count, 1))[columns.group_E]
        return (rate >= self.low) & (rate <= self.high)


@dataclass(frozen=True, kw_only=True)
class Overlong:
    """Drop episodes that were cut: they say more about the limit than about the policy.  [DAPO, arXiv 2503.14476]"""

    def __call__(self, columns: Columns) -> Bools:
        return ~columns.bootstraps_E


@dataclass(frozen=True, kw_only=True)
class ResampleOnCorrect:
    """Of each group keep `keep` episodes, half of them failures drawn at random, the rest the successes with the fewest flaws.
    [GRPO-RoC, rStar2-Agent, arXiv 2508.20722; it draws successes with chances that fall with their flaws]"""

    keep: int = 16
    """Episodes a group keeps, of more that were sampled."""
    flaws: str = "flaws"
    """Reward term that counts an episode's flaws (tool errors, malformed calls); more negative is worse."""
    seed: int = 0
    """Of the draw among failures."""

    def __call__(self, columns: Columns) -> Bools:
        quality = columns.terms_E.get(self.flaws, np.zeros(len(columns.final_E)))
        draw = np.random.default_rng(self.seed)
        kept = np.zeros(len(columns.final_E), bool)
        for group in np.unique(columns.group_E):
            mine = columns.valid_E & (columns.group_E == group)
            wins, losses = np.flatnonzero(mine & columns.success_E), np.flatnonzero(mine & ~columns.success_E)
            quota = max(min(len(losses), self.keep // 2), min(len(losses), self.keep - len(wins)))
            kept[draw.permutation(losses)[:quota]] = True
            kept[wins[np.argsort(-quality[wins], kind="stable")][: self.keep - quota]] = True
        return kept


def keep(filters: Sequence[Filter], columns: Columns) -> tuple[Bools, dict[str, int]]:
    """Apply filters in order: which episodes stay, shape (E,), and how many each filter was the first to drop."""
    kept, dropped = np.ones(len(columns.final_E), bool), {}
    for each in filters:
        survivors = kept & each(columns)
        dropped[type(each).__name__] = int((kept & ~survivors).sum())
        kept = survivors
    return kept, dropped


def _spread(columns: Columns) -> Floats:
    """Deviation of the valid returns of each episode's group, shape (E,)."""
    spread = np.zeros(len(columns.final_E))
    for group in np.unique(columns.group_E[columns.valid_E]):
        mine = columns.valid_E & (columns.group_E == group)
        returns = columns.return_E[mine]
        spread[columns.group_E == group] = np.std(returns - returns[0])
    return spread
