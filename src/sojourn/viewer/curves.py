"""Curves of several runs in one chart: smoothing, intervals, runs that differ in the seed alone as one.

The one idea: smoothing is pooling.  The value at a step is that of the last `window` steps taken together, and the interval is that of what
was pooled: of success rates Wilson's, over all their episodes, else of a mean over the steps, taken as independent.

    mean of n values        mean -+ t_{0.975, n-1} s / sqrt(n)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

from sojourn.viewer.svg import LIGHT, Point, Series, line_chart
from sojourn.wilson import wilson

Row = dict[str, Any]
Axis = Literal["step", "minutes", "tokens"]
T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
)
"""Student's t for 1, 2, ... degrees of freedom; beyond, 1.96 + 2.5 / degrees is within 0.003 of it."""
ROOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Learning", ("success", "success/", "reward", "reward/", "oracle/")),
    ("Episodes", ("turns", "tool_calls", "length", "cut", "stop/", "share/")),
    (
        "Update",
        (
            "entropy",
            "kl",
            "zero_signal",
            "ratio",
            "cut_high",
            "cut_low",
            "mismatch_k3",
            "grad_norm",
            "advantage",
            "reward_std",
            "loss",
            "lr",
        ),
    ),
    ("Ledger and failures", ("ledger/", "failed", "failures/")),
    ("Time", ("tokens_per_second", "seconds/", "seconds")),
)
"""Headings, and the metrics under them by name or by how they begin; the rest comes last."""
SHARES = ("success", "zero_signal", "cut", "stop/", "share/", "cut_high", "cut_low")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run, or several that differ in the seed alone."""

    names: Sequence[str]
    """Of its runs."""
    runs: Sequence[Sequence[Row]]
    """For each run its rows of metrics."""
    evals: Sequence[Row] = ()

    @property
    def name(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]} and {len(self.names) - 1} more"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of independent values; of one value it is that value.

    >>> [round(bound, 3) for bound in interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(values) < 2:
        return values[0], values[0]
    degrees = len(values) - 1
    t = T_975[degrees - 1] if degrees <= len(T_975) else 1.96 + 2.5 / degrees
    spread = t * stdev(values) / sqrt(len(values))
    return fmean(values) - spread, fmean(values) + spread


def pooled(
    rows: Sequence[Row], key: str, window: int, axis: Axis = "step"
) -> tuple[list[Point], list[tuple[float, float, float]]]:
    """A metric's points, each over the last `window` rows that have it, and their intervals where there are any."""
    known = [(x, row) for x, row in zip(along(rows, axis), rows, strict=True) if is_number(row.get(key))]
    points, bands = [], []
    for place, (x, _) in enumerate(known):
        part = [row for _, row in known[max(place + 1 - window, 0) : place + 1]]
        counts = [tried(row, key) for row in part]
        if all(counts):
            value = sum(row[key] * n for row, n in zip(part, counts, strict=True)) / sum(counts)
            bands.append((x, *wilson(value, sum(counts))))
        else:
            value = fmean(row[key] for row in part)
            bands += [(x, *interval([row[key] for row in part]))] if len(part) > 2 else []
        points.append((x, value))
    return points, bands


def tried(row: Mapping[str, Any], key: str) -> float:
    """How many episodes a success rate is of; 0 for what is no such rate."""
    if key != "success" and not key.startswith("success/"):
        return 0.0
    share = 1.0 if key == "success" else row.get(f"share/{key.partition('/')[2]}") or 0.0
    return float((row.get("episodes") or 0.0) * share)


def along(rows: Sequence[Row], axis: Axis) -> list[float]:
    """Where each row lies on the axis: its step, minutes of work, or tokens sampled until then."""
    if axis == "minutes":
        return [float(row.get("seconds") or 0.0) / 60 for row in rows]
    if axis == "tokens":
        total, found = 0.0, []
        for row in rows:
            total += float(row.get("action_tokens") or 0.0)
            found.append(total)
        return found
    return [float(row["step"]) for row in rows]


def lines_of(runs: Mapping[str, tuple[Row, Sequence[Row], Sequence[Row]]], seeds: bool) -> list[Line]:
    """The lines of a chart, of config, metrics and evaluations by run; with `seeds`, runs with equal configs but for the seed are one."""
    if not seeds:
        return [Line(names=[name], runs=[metrics], evals=evals) for name, (_, metrics, evals) in runs.items()]
    alike: dict[str, list[str]] = {}
    for name, (config, _, _) in runs.items():
        same = json.dumps({key: value for key, value in config.items() if key not in ("run", "seed")}, sort_keys=True)
        alike.setdefault(same, []).append(name)
    return [
        Line(
            names=names,
            runs=[runs[name][1] for name in names],
            evals=[row for name in names for row in runs[name][2]],
        )
        for names in alike.values()
    ]


def series(line: Line, key: str, color: int, *, window: int = 1, axis: Axis = "step") -> list[Series]:
    """A line of a chart: of one run with the interval of what was pooled, of several their mean with the interval over runs."""
    pools = [pooled(rows, key, window, axis) for rows in line.runs]
    raw = [Series(name="", points=pooled(rows, key, 1, axis)[0], color=color, style="faint") for rows in line.runs if window > 1]
    if len(pools) == 1:
        points, band = pools[0]
        return [*raw, Series(name=line.name, points=points, color=color, band=band)] if points else []
    values: dict[float, list[float]] = {}
    for points, _ in pools:
        for number, (x, value) in enumerate(
            points
        ):  # minutes and tokens of two runs are never equal: there the n-th points belong together
            values.setdefault(x if axis == "step" else _nth(pools, number), []).append(value)
    points = [(x, fmean(values[x])) for x in sorted(values)]
    band = [(x, *interval(values[x])) for x in sorted(values)]
    faint = [Series(name="", points=points_, color=color, style="faint") for points_, _ in pools]
    return [*faint, Series(name=line.name, points=points, color=color, band=band)] if points else []


def _nth(pools: Sequence[tuple[list[Point], Any]], number: int) -> float:
    """Where the n-th point lies, on average over the runs that have it."""
    return fmean(points[number][0] for points, _ in pools if number < len(points))


def charts(lines: Sequence[Line], *, window: int = 1, axis: Axis = "step") -> list[tuple[str, list[Row]]]:
    """All charts under their headings: of each metric one, with a line for each run."""
    names = list(
        dict.fromkeys(key for line in lines for rows in line.runs for row in rows for key, v in row.items() if is_number(v))
    )
    found: list[tuple[str, list[Row]]] = [("Held-out tasks", _held_out(lines))] if axis == "step" else []
    left = [name for name in names if name not in ("step", "episodes")]
    for room, keys in ROOMS:
        mine = [name for key in keys for name in left if name == key or (key.endswith("/") and name.startswith(key))]
        left = [name for name in left if name not in mine]
        found.append((room, [_chart(lines, name, window, axis) for name in mine]))
    found.append(("Other", [_chart(lines, name, window, axis) for name in sorted(left)]))
    return [(room, shown) for room, shown in found if shown]


def _chart(lines: Sequence[Line], key: str, window: int, axis: Axis) -> Row:
    drawn = [part for color, line in enumerate(lines) for part in series(line, key, color % len(LIGHT), window=window, axis=axis)]
    share = any(key == name or (name.endswith("/") and key.startswith(name)) for name in (*SHARES, "success/"))
    y = (0.0, 1.0) if key.split("/")[0] == "success" else None
    return {"name": key, "svg": line_chart(drawn, percent=share, y=y, legend=False, unit=axis)}


def _held_out(lines: Sequence[Line]) -> list[Row]:
    """For each mode and level of the evaluations a chart."""
    kinds = list(dict.fromkeys((row["mode"], row["level"]) for line in lines for row in line.evals))
    return [{"name": f"{level}, {mode}", "svg": _measured(lines, mode, level)} for mode, level in kinds]


def _measured(lines: Sequence[Line], mode: str, level: str) -> str:
    drawn = []
    for color, line in enumerate(lines):
        rows = [row for row in line.evals if (row["mode"], row["level"]) == (mode, level) and row["tasks"]]  # all may have failed
        by_step: dict[float, list[Row]] = {}
        for row in rows:
            by_step.setdefault(float(row["step"]), []).append(row)
        points, band = [], []
        for step in sorted(by_step):
            tasks = sum(row["tasks"] for row in by_step[step])
            share = sum(row["success"] * row["tasks"] for row in by_step[step]) / tasks
            points.append((step, share))
            band.append((step, *wilson(share, tasks)))
        drawn.append(Series(name="", points=points, color=color % len(LIGHT), style="faint"))
        drawn.append(Series(name=line.name, points=points, color=color % len(LIGHT), style="marks", band=band))
    return line_chart([one for one in drawn if one.points], percent=True, y=(0.0, 1.0), legend=False)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
