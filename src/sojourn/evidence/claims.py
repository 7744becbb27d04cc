"""A claim: a number that figures of the arms give, its threshold, and whether it held.

    ARMS = {"trained": {}, "control": {"levels": ("2",)}}
    CLAIMS = {
        "level 2": Claim(says="level 2 is learned", at_least=0.8, value=lambda look: look("trained", "after/sampled/2")),
        "effect": Claim(
            says="10 points over the control", at_least=0.1,
            value=lambda look: look("trained", "after/sampled/2") - look("control", "after/sampled/2"),
        ),
    }

The one idea: a claim's number is worked out seed by seed, so comparisons are paired, and again for each replicate of a bootstrap.  It is
held if its whole 95 % interval is on the right side of the threshold, missed if all of it is on the wrong side, undecided in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

from sojourn.evidence.bootstrap import REPLICATES, Draws, interval
from sojourn.evidence.measured import Figure, Measured

Look = Callable[[str, str], float]
"""The figure (second) of an arm (first); `sojourn.evidence.measured` says which figures there are, beside a recipe's own."""
Verdict = Literal["held", "missed", "undecided", "measured", "not run"]
"""`measured`: it has no threshold."""


@dataclass(frozen=True)
class RunOf:
    """In an arm, in place of a value: the run folder of another arm, declared before it, of the same seed.  So `model=RunOf("warm-up")`
    begins with what the warm-up came to."""

    arm: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a recipe says that its runs show."""

    says: str
    """In words."""
    value: Callable[[Look], float]
    """The number, from figures of the arms."""
    at_least: float = -math.inf
    """The threshold: the least that it may be.  Without any, the number is told and not judged."""
    at_most: float = math.inf
    """The threshold: the most that it may be."""
    each: bool = False
    """The seed that is worst must be right, in place of the mean over seeds; then the interval is over tasks alone."""
    form: str = ".1%"
    """How the number is written."""

    def __post_init__(self) -> None:
        if not self.says.strip():
            raise ValueError("Claim(says=''): say in words what is claimed")
        if self.at_least > self.at_most:
            raise ValueError(f"Claim(says={self.says!r}): at_least={self.at_least} is above at_most={self.at_most}")

    @property
    def threshold(self) -> str:
        """
        >>> Claim(says="fast", value=lambda look: 0.0, at_most=12.0, form=".0f").threshold
        'at most 12'
        """
        ends = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {end:{self.form}}" for words, end in ends if math.isfinite(end)) or "none"

    def judge(self, value: float, low: float, high: float) -> Verdict:
        """By the interval [low, high] of the value."""
        if self.threshold == "none":
            return "measured"
        if self.at_least <= low and high <= self.at_most:
            return "held"
        return "missed" if high < self.at_least or low > self.at_most else "undecided"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim and what came of it."""

    says: str
    threshold: str
    form: str
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)
    """The number of each seed."""
    over: str = ""
    """What the interval is over."""
    reads: Sequence[tuple[str, str]] = ()
    """Arm and figure of all that it looked at."""


class _NotRun(LookupError):
    """A run that the claim needs is not there."""


def judge(name: str, claim: Claim, runs: Mapping[tuple[str, int], Measured]) -> Judged:
    """The verdict on a claim.  Raises `ValueError` for figures that the runs do not have, or a value that is no number."""
    reads: dict[tuple[str, str], None] = {}

    def at(seed: int) -> Look:
        def look(arm: str, figure: str) -> float:
            reads[arm, figure] = None
            return _figure(name, runs, arm, seed, figure).value

        return look

    seeds = {}
    for seed in sorted({seed for _, seed in runs}):
        try:
            seeds[seed] = _number(name, claim, at(seed))
        except _NotRun:
            continue
    blank = Judged(says=claim.says, threshold=claim.threshold, form=claim.form, verdict="not run", reads=tuple(reads))
    if not seeds:
        return blank
    worst = min(seeds, key=lambda seed: _margin(claim, seeds[seed]))
    counted = [worst] if claim.each else list(seeds)
    value = fmean(seeds[seed] for seed in counted)
    draws = Draws(counted)
    by_seed = {seed: [_replicate(name, claim, runs, seed, draws, turn) for turn in range(REPLICATES)] for seed in counted}
    low, high = interval(by_seed, draws)
    low, high = min(low, value), max(high, value)
    tasks = any(_figure(name, runs, arm, seed, figure).tasks for arm, figure in reads for seed in counted)
    exact = claim.each and not tasks  # nothing was drawn, so there is nothing to be unsure of
    over = " and ".join([*(["seeds"] if len(counted) > 1 else []), *(["tasks"] if tasks else [])])
    verdict = claim.judge(value, low, high) if over or exact or claim.threshold == "none" else "undecided"
    return replace(
        blank, verdict=verdict, value=value, seeds=seeds, over=over, low=low if over else None, high=high if over else None
    )


def _margin(claim: Claim, value: float) -> float:
    """How far inside the threshold a value is; the seed with the least is the worst."""
    return min(value - claim.at_least, claim.at_most - value)


def _replicate(name: str, claim: Claim, runs: Mapping[tuple[str, int], Measured], seed: int, draws: Draws, turn: int) -> float:
    def look(arm: str, figure: str) -> float:
        return draws.value(_figure(name, runs, arm, seed, figure), arm, turn)

    try:
        return float(claim.value(look))
    except ZeroDivisionError:  # a ratio to nothing, in this replicate
        return math.nan


def _figure(name: str, runs: Mapping[tuple[str, int], Measured], arm: str, seed: int, figure: str) -> Figure:
    run = runs.get((arm, seed))
    if run is None:
        raise _NotRun
    if figure not in run.figures:
        raise ValueError(
            f"claim '{name}': run {arm}/{seed} has no figure '{figure}'; it has {', '.join(run.figures) or 'none'} "
            "(correct the claim's value, or have the recipe's `figures` make it)"
        )
    return run.figures[figure]


def _number(name: str, claim: Claim, look: Look) -> float:
    try:
        value = float(claim.value(look))
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"claim '{name}': its value is no number: {error}") from error
    if not math.isfinite(value):
        raise ValueError(f"claim '{name}': its value is {value}")
    return value
