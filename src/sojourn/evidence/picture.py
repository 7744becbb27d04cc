"""The picture of a recipe's runs: success over steps, a colour for each arm; thin lines are seeds, thick ones means."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from sojourn.store import RunFolder
from sojourn.viewer.svg import Point, Series, line_chart, mean_of, points_of, standalone

Runs = Mapping[str, Mapping[int, RunFolder]]
"""By arm and seed; of an arm that was not run there are none."""


def picture(runs: Runs) -> str:
    """Held-out success, sampled, where it was measured during training; else that of the training episodes."""
    held_out = any(row["eval"] == "during" for seeds in runs.values() for run in seeds.values() for row in run.evals())
    series = []
    for color, (arm, seeds) in enumerate(runs.items()):
        lines = [line for run in seeds.values() if (line := _held_out(run) if held_out else points_of(run.metrics(), "success"))]
        if not lines:
            continue
        if len(lines) > 1:
            series += [Series(name="", points=line, color=color, style="faint") for line in lines]
        series.append(Series(name=arm, points=mean_of(lines), color=color))
    return line_chart(series, percent=True, y=(0.0, 1.0), width=760, height=340, style=standalone())


def _held_out(run: RunFolder) -> list[Point]:
    """Mean over levels at each step that was evaluated."""
    rows = [row for row in run.evals() if row["mode"] == "sampled"]
    steps = sorted({row["step"] for row in rows})
    return [(float(step), fmean(row["success"] for row in rows if row["step"] == step)) for step in steps]
