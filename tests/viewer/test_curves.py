"""Smoothing pools, intervals are those of what was pooled, and seeds are joined at equal steps."""

from __future__ import annotations

import re
from math import sqrt
from typing import Any

import pytest

from sojourn.viewer.curves import Line, charts, interval, lines_of, pooled, series
from sojourn.wilson import wilson

Row = dict[str, Any]


def rows(**columns: list[float]) -> list[Row]:
    count = len(next(iter(columns.values())))
    return [{"step": i + 1, **{key: values[i] for key, values in columns.items()}} for i in range(count)]


def test_a_success_rate_is_pooled_over_episodes_not_over_steps() -> None:
    told = rows(success=[1.0, 0.0], episodes=[30.0, 10.0])
    points, band = pooled(told, "success", 2)
    assert points == [(1, 1.0), (2, 30 / 40)]
    assert band[1] == (2, *wilson(30 / 40, 40))


def test_of_a_level_those_episodes_count_that_were_of_it() -> None:
    told = rows(**{"success/easy": [1.0, 0.5], "share/easy": [0.1, 0.9], "episodes": [10.0, 10.0]})
    assert pooled(told, "success/easy", 2)[0][1] == (2, pytest.approx((1.0 + 4.5) / 10))


def test_other_numbers_are_means_with_students_interval() -> None:
    points, band = pooled(rows(reward=[1.0, 2.0, 3.0]), "reward", 3)
    assert points == [(1, 1.0), (2, 1.5), (3, 2.0)]
    assert band == [(3, pytest.approx(2 - 4.303 / sqrt(3)), pytest.approx(2 + 4.303 / sqrt(3)))]


def test_students_t_beyond_the_table() -> None:
    """Quantiles 0.975 for 30 and 100 degrees, of a table: 2.042 and 1.984."""
    for n, t in ((31, 2.042), (101, 1.984)):
        values = [0.0] * n
        values[0] = 1.0
        mean, deviation = 1 / n, sqrt(1 / n)  # s^2 = (1 - 1/n) / (n - 1) = 1 / n
        assert interval(values)[1] == pytest.approx(mean + t * deviation / sqrt(n), abs=1e-4)


def test_a_step_that_lacks_a_metric_is_left_out() -> None:
    told: list[Row] = [{"step": 1, "kl": 1.0}, {"step": 2, "kl": None}, {"step": 3}, {"step": 4, "kl": 3.0}]
    assert pooled(told, "kl", 2)[0] == [(1, 1.0), (4, 2.0)]


def test_along_tokens_and_minutes() -> None:
    told = rows(reward=[1.0, 2.0], action_tokens=[100.0, 50.0], seconds=[60.0, 90.0])
    assert [x for x, _ in pooled(told, "reward", 1, "tokens")[0]] == [100, 150]
    assert [x for x, _ in pooled(told, "reward", 1, "minutes")[0]] == [1, 1.5]


def test_runs_that_differ_in_the_seed_alone_are_one_line() -> None:
    runs = {name: (config, rows(reward=values), []) for name, config, values in (
        ("a", {"lr": 1, "seed": 0, "run": "a"}, [0.0, 2.0]),
        ("b", {"lr": 1, "seed": 1, "run": "b"}, [1.0, 4.0]),
        ("c", {"lr": 2, "seed": 0, "run": "c"}, [9.0, 9.0]),
    )}  # fmt: skip
    assert [line.names for line in lines_of(runs, seeds=False)] == [["a"], ["b"], ["c"]]
    joined, other = lines_of(runs, seeds=True)
    assert (joined.names, other.names) == (["a", "b"], ["c"])
    mean = series(joined, "reward", 0)[-1]
    assert mean.points == [(1, 0.5), (2, 3.0)]
    assert mean.band[1] == (2, pytest.approx(3 - 12.706), pytest.approx(3 + 12.706))  # s = sqrt(2), of two


def test_joined_seeds_are_joined_by_place_where_their_minutes_differ() -> None:
    both = [rows(reward=[1.0, 2.0], seconds=[60.0, 120.0]), rows(reward=[3.0, 4.0], seconds=[120.0, 240.0])]
    mean = series(Line(names=["a", "b"], runs=both), "reward", 0, axis="minutes")[-1]
    assert mean.points == [(1.5, 2.0), (3.0, 3.0)]


def test_every_metric_has_one_chart_with_a_line_for_each_run() -> None:
    told = rows(reward=[1.0, 2.0], odd=[1.0, 1.0])
    found = dict(charts([Line(names=["a"], runs=[told]), Line(names=["b"], runs=[told])]))
    assert [chart["name"] for chart in found["Learning"]] == ["reward"]
    assert [chart["name"] for chart in found["Other"]] == ["odd"]
    assert re.findall(r"&quot;name&quot;: &quot;(.)&quot;", found["Learning"][0]["svg"]) == ["a", "b"]


def test_an_evaluation_of_which_all_tries_failed_has_no_point() -> None:
    evals = [{"mode": "sampled", "level": "1", "step": step, "success": 0.5, "tasks": tasks} for step, tasks in ((0, 0), (1, 4))]
    ((_, (chart,)), *_) = charts([Line(names=["a"], runs=[rows(reward=[1.0])], evals=evals)])
    assert chart["name"] == "1, sampled" and "&quot;points&quot;: [[1.0, 0.5]]" in chart["svg"]
