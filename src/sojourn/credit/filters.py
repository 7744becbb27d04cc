"""Filters: which episodes are trained.  Each is a frozen dataclass called as `filter(columns) -> keep_E`.

A filter looks at groups or episodes after they were scored and before credit, so that what it drops is in no statistics.  `keep`
applies several and says of each episode which of them dropped it, so that every one ends as trained or filtered with a reason.  To fill the
batch up again is the trainer's business (`TrainConfig.sampling_rounds`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats
from sojourn.credit.ranges import INF, checked, within

Filter: TypeAlias = Callable[[Columns], Bools]


@checked
class ZeroSignal:
    """Drop groups whose returns are all equal; with refilling this is DAPO's dynamic sampling.  [arXiv 2503.14476, eq. 11]"""

    def __call__(self, columns: Columns) -> Bools:
        return _spread(columns) > 0


@checked
class TopVariance:
    """Keep the share of groups whose returns vary most.  [StarPO-S, arXiv 2504.20073]"""

    share: float = 0.25
    """Share of groups to keep, rounded up; lowering it trains on fewer, more uncertain tasks."""

    def __post_init__(self) -> None:
        within(self, share=(0, 1))

    def __call__(self, columns: Columns) -> Bools:
        spread = _spread(columns)
        groups, first = np.unique(columns.group_E, return_index=True)
        kept = int(np.ceil(self.share * len(groups)))
        chosen = groups[np.argsort(-spread[first], kind="stable")[:kept]]
        return np.isin(columns.group_E, chosen)


@checked
class Band:
    """Keep groups whose share of successes lies in [low, high].  [R-Zero, arXiv 2508.05004]"""

    low: float = 0.3
    """Below: too hard."""
    high: float = 0.8
    """Above: too easy."""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"Band(low={self.low}, high={self.high}): no group can lie in it; 0 <= low <= high <= 1")

    def refuses(self, size: int) -> str:
        if any(self.low <= wins / size <= self.high for wins in range(size + 1)):
            return ""
        return (
            f"no group of {size} has a share of successes in the band {self.low:g} to {self.high:g}, so nothing would be trained; widen the "
            "band, or raise the group size"
        )

    def __call__(self, columns: Columns) -> Bools:
        valid = columns.valid_E
        count, wins = np.bincount(columns.group_E, valid), np.bincount(columns.group_E, valid & columns.success_E)
        rate = (wins / np.maximum(count, 1))[columns.group_E]
        return (rate >= self.low) & (rate <= self.high)


@checked
class Overlong:
    """Do not train episodes that were cut (at a limit of turns or tokens, or in their last answer): they say more about the limit than
    about the policy.  Their groups still compare with them.  [DAPO, arXiv 2503.14476]"""

    masks: ClassVar[bool] = True

    def __call__(self, columns: Columns) -> Bools:
        kept = ~columns.bootstraps_E
        if columns.cut_S is not None:
            kept[columns.episode_S[columns.cut_S & columns.leaf_S]] = False
        return kept


@checked
class ResampleOnCorrect:
    """Of each group keep `keep` episodes in the proportion of its failures and successes, but 2 of each if there are: failures drawn at
    random, successes with the fewest flaws.  [GRPO-RoC, rStar2-Agent, arXiv 2508.20722]"""

    keep: int = 16
    """Episodes a group keeps, of more that were sampled."""
    flaws: str = "flaws"
    """Reward term that counts an episode's flaws (tool errors, malformed calls); more negative is worse."""
    seed: int = 0
    """Of the draw among failures."""

    def __post_init__(self) -> None:
        within(self, keep=(2, INF), seed=(0, INF))

    def __call__(self, columns: Columns) -> Bools:
        quality = columns.terms_E.get(self.flaws, np.zeros(len(columns.final_E)))
        draw = np.random.default_rng(self.seed)
        kept = np.zeros(len(columns.final_E), bool)
        for group in np.unique(columns.group_E):
            mine = columns.valid_E & (columns.group_E == group)
            wins, losses = np.flatnonzero(mine & columns.success_E), np.flatnonzero(mine & ~columns.success_E)
            quota = self._failures(len(losses), len(wins))
            kept[draw.permutation(losses)[:quota]] = True
            kept[wins[np.argsort(-quality[wins], kind="stable")][: self.keep - quota]] = True
        return kept

    def _failures(self, losses: int, wins: int) -> int:
        """How many failures a group of so many failures and successes keeps."""
        if losses + wins <= self.keep:
            return losses
        least = min(2, self.keep // 2)
        share = round(self.keep * losses / (losses + wins))
        return min(max(share, min(least, losses)), self.keep - min(least, wins))


@checked
class Extremes:
    """Keep the episodes of each group whose return can be trusted most: the best with the worst, or with one of the others, or alone.  All
    that share the best (the worst) return are kept, and groups of equal returns are.  [PF-PPO, arXiv 2409.06957]"""

    beside: Literal["worst", "random", "none"] = "worst"
    """What is kept beside the best."""
    seed: int = 0
    """Of the draw among the others."""

    def __post_init__(self) -> None:
        within(self, seed=(0, INF))

    def __call__(self, columns: Columns) -> Bools:
        returns, draw = columns.return_E, np.random.default_rng(self.seed)
        kept = np.zeros(len(returns), bool)
        for group in np.unique(columns.group_E[columns.valid_E]):
            mine = np.flatnonzero(columns.valid_E & (columns.group_E == group))
            best, worst = returns[mine].max(), returns[mine].min()
            others = mine[returns[mine] < best]
            kept[mine[returns[mine] == best]] = True
            if self.beside == "worst":
                kept[mine[returns[mine] == worst]] = True
            elif self.beside == "random" and len(others):
                kept[draw.choice(others)] = True
        return kept


class Kept(NamedTuple):
    """What filters leave of E episodes."""

    counted_E: Bools
    """Whether statistics count it."""
    trained_E: Bools
    """Whether it is trained."""
    reason_E: list[str]
    """Why it is not: the filter that was the first to drop it, "no result" or "unusable" (`core.Standing`); empty where it is trained."""

    @property
    def dropped(self) -> dict[str, int]:
        """How many episodes each reason took."""
        return dict(Counter(reason for reason in self.reason_E if reason))


def keep(filters: Sequence[Filter], columns: Columns) -> Kept:
    """Apply filters in order, each to what those before it kept.

    A filter with `masks` leaves what it drops in the statistics, and so does an episode that is complete but unusable.
    """
    counted = columns.valid_E.copy()
    trained = counted if columns.usable_E is None else counted & columns.usable_E
    reason = ["no result" if not valid else "" if usable else "unusable" for valid, usable in zip(counted, trained, strict=True)]
    for each in filters:
        passed = each(replace(columns, valid_E=counted))
        for episode in np.flatnonzero(trained & ~passed).tolist():
            reason[episode] = getattr(each, "__name__", type(each).__name__)
        trained = trained & passed
        if not getattr(each, "masks", False):
            counted = counted & passed
    return Kept(counted, trained, reason)


def _spread(columns: Columns) -> Floats:
    """Deviation of the valid returns of each episode's group, shape (E,)."""
    spread = np.zeros(len(columns.final_E))
    for group in np.unique(columns.group_E[columns.valid_E]):
        mine = columns.valid_E & (columns.group_E == group)
        returns = columns.return_E[mine]
        spread[columns.group_E == group] = np.std(returns - returns[0])
    return spread
