"""A claim is held, missed or undecided by its interval; the interval is over seeds and tasks, and what both arms share cancels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sojourn.evidence.bootstrap import REPLICATES, Draws, interval
from sojourn.evidence.claims import Claim, Judged, judge
from sojourn.evidence.measured import Figure, Measured

Runs = Mapping[tuple[str, int], Measured]


def runs(**arms: list[Figure]) -> Runs:
    """An arm's figure `x` by seed."""
    return {
        (arm, seed): Measured(arm=arm, seed=seed, figures={"x": figure}, start={})
        for arm, figures in arms.items()
        for seed, figure in enumerate(figures)
    }


def tasks(solved: int, count: int = 100, offset: int = 0) -> Figure:
    """So many of the tasks are solved, from the offset on."""
    return Figure.over({f"t{index}": float((index - offset) % count < solved) for index in range(count)})


def judged(found: Runs, *, value: Any = lambda look: look("a", "x"), **threshold: Any) -> Judged:
    return judge("c", Claim(says="a claim", value=value, **threshold), found)


@pytest.mark.parametrize(
    ("threshold", "verdict"),
    [
        ({"at_least": 0.5}, "held"), ({"at_least": 0.8}, "undecided"), ({"at_least": 0.95}, "missed"),
        ({"at_most": 0.95}, "held"), ({"at_most": 0.8}, "undecided"), ({"at_most": 0.5}, "missed"),
        ({"at_least": 0.5, "at_most": 0.95}, "held"), ({"at_least": 0.5, "at_most": 0.8}, "undecided"),
        ({"at_least": 0.2, "at_most": 0.5}, "missed"),
    ],
    ids=str,
)  # fmt: skip
def test_the_whole_interval_decides(threshold: dict[str, float], verdict: str) -> None:
    """80 of 100 tasks by each of three seeds: the standard error is about 4 points."""
    assert judged(runs(a=[tasks(80)] * 3), **threshold).verdict == verdict


def test_the_interval_over_tasks_is_as_wide_as_the_binomial_says() -> None:
    """400 tasks, 80 % solved, one seed: 1.96 sqrt(0.8 0.2 / 400) = 0.0392 to each side."""
    found = judged(runs(a=[tasks(320, 400)]), at_least=0.5)
    assert found.over == "tasks"
    assert found.low == pytest.approx(0.8 - 0.0392, abs=0.004)
    assert found.high == pytest.approx(0.8 + 0.0392, abs=0.004)


def test_none_of_twenty_is_not_sure_to_be_none() -> None:
    """The posterior is Beta(1, 21), whose 97.5 % quantile is 1 - 0.025^(1/21) = 0.161; of a difference, both arms are unsure."""
    nothing = runs(a=[tasks(0, 20)], b=[tasks(0, 20)])
    found = judged(nothing, at_most=0.05)
    assert (found.value, found.low, found.verdict) == (0.0, 0.0, "undecided")
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 21), abs=0.015)
    assert judged(nothing, value=lambda look: look("a", "x") - look("b", "x"), at_most=0.05).verdict == "undecided"
    assert judged(runs(a=[tasks(0, 200)]), at_most=0.05).verdict == "held"


def test_the_interval_over_seeds_has_the_variance_of_their_mean() -> None:
    """Without bias: sum of squares around the mean / (n (n - 1)), which drawing n of n would make smaller by (n - 1) / n."""
    values = [0.1, 0.4, 0.5, 0.9, 0.6]
    draws = Draws(range(5))
    means = (np.array(values) * draws.times).sum(1) / 4
    assert means.var() == pytest.approx(np.var(values, ddof=1) / 5, rel=0.05)
    low, high = interval({seed: [value] * REPLICATES for seed, value in enumerate(values)}, draws)
    assert low < 0.5 < high


def test_with_three_seeds_the_interval_holds_them_all() -> None:
    found = judged(runs(a=[Figure(0.2), Figure(0.3), Figure(0.7)]), at_least=0.1)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.7))
    assert found.value == pytest.approx(0.4)
    assert found.over == "seeds"


def test_a_comparison_is_paired_by_seed_and_task() -> None:
    """b solves what a solves and ten more tasks in each seed: the difference is known far better than either."""
    both = runs(a=[tasks(30), tasks(50), tasks(70)], b=[tasks(40), tasks(60), tasks(80)])
    alone = judged(both, at_least=0.0)
    effect = judged(both, value=lambda look: look("b", "x") - look("a", "x"), at_least=0.02)
    assert effect.value == pytest.approx(0.1)
    assert effect.verdict == "held"
    assert effect.high - effect.low < (alone.high - alone.low) / 3  # type: ignore[operator]
    assert dict.fromkeys(effect.reads) == {("b", "x"): None, ("a", "x"): None}


def test_each_seed_must_be_right_where_that_is_claimed() -> None:
    found = runs(a=[Figure(0.05), Figure(0.09), Figure(0.12)])
    worst = judged(found, at_most=0.1, each=True)
    assert (worst.verdict, worst.value, worst.over, worst.low) == ("missed", 0.12, "", None)
    assert judged(found, at_most=0.13, each=True).verdict == "held"
    assert judged(found, at_least=0.06, each=True).value == 0.05
    assert judged(found, at_least=0.01, at_most=0.125, each=True).value == 0.12, "0.005 inside, the first 0.04"


def test_one_seed_without_tasks_decides_nothing() -> None:
    found = judged(runs(a=[Figure(0.9)]), at_least=0.5)
    assert (found.verdict, found.value, found.low, found.over) == ("undecided", 0.9, None, "")


def test_seeds_that_lack_a_run_of_an_arm_do_not_count() -> None:
    found = runs(a=[tasks(90), tasks(90)], b=[tasks(10)])
    effect = judged(found, value=lambda look: look("a", "x") - look("b", "x"), at_least=0.5)
    assert effect.seeds == {0: pytest.approx(0.8)}
    assert judged(runs(b=[tasks(10)]), at_least=0.5).verdict == "not run"


def test_the_same_results_give_the_same_interval() -> None:
    first, second = (judged(runs(a=[tasks(60), tasks(70)]), at_least=0.5) for _ in range(2))
    assert first == second


def test_a_ratio_to_nothing_is_told() -> None:
    with pytest.raises(ValueError, match="claim 'c': its value is no number: .*division by zero"):
        judged(runs(a=[tasks(0)]), value=lambda look: 1 / look("a", "x"), at_least=0.5)
    with pytest.raises(ValueError, match="claim 'c': its value is inf"):
        judged(runs(a=[Figure(math.inf)]), at_least=0.5)


def test_without_a_threshold_it_is_measured() -> None:
    found = judged(runs(a=[tasks(30)]))
    assert (found.verdict, found.value, found.threshold) == ("measured", 0.3, "none")
    assert judged(runs(a=[Figure(3.0)])).verdict == "measured"


def test_a_claim_needs_words_and_a_threshold_that_can_hold() -> None:
    with pytest.raises(ValueError, match="say in words"):
        Claim(says=" ", value=lambda look: 1.0, at_least=1)
    with pytest.raises(ValueError, match="is above at_most"):
        Claim(says="fast", value=lambda look: 1.0, at_least=2, at_most=1)
