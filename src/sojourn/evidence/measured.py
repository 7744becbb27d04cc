"""What a run measured, as figures by name.

    before/sampled, after/sampled        success on held-out tasks, over all levels; `greedy` and named evaluations likewise
    after/sampled/LEVEL                  of one level
    after/NAME/LEVEL/METRIC              what else a named evaluation measures: pass@4, a metric of its own
    cost/steps, cost/seconds, cost/episodes, cost/sampled_tokens, cost/trained_tokens
    ...                                  and those that the recipe's `figures(run)` gives

The one idea: a figure is a mean over tasks wherever the run folder has its tasks, so that an interval over tasks can be had.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from sojourn.store import RunFolder, query, write_json

OWN = "figures.json"
"""In a run folder: the figures that the recipe's `figures` gave, and the code that gave them."""
SUMS = {"sampled_tokens": "action_tokens", "trained_tokens": "trained_tokens", "episodes": "episodes"}
"""Cost, and the metric of a step whose sum it is."""


@dataclass(frozen=True)
class Figure:
    """A number; `tasks`, where it is a mean over tasks, has that of each, by the task's id."""

    value: float
    tasks: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def over(cls, tasks: Mapping[str, float]) -> Figure:
        return cls(fmean(tasks.values()), tasks)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished run: its figures, and the row of its last start, which names machine and code."""

    arm: str
    seed: int
    figures: Mapping[str, Figure]
    start: Mapping[str, Any]


def measured(arm: str, seed: int, run: RunFolder) -> Measured:
    """What a finished run measured."""
    figures = {**_successes(run), **_metrics(run), **_cost(run), **_own(run)}
    return Measured(arm=arm, seed=seed, figures=figures, start=run.starts()[-1])


def keep_own(run: RunFolder, figures: Mapping[str, float | Mapping[str, float]], code: str) -> None:
    """Note in the run folder what the recipe's `figures` gave: a number, or one for each task by its id."""
    for name, value in figures.items():
        numbers = value.values() if isinstance(value, Mapping) else [value]
        if not isinstance(name, str) or not numbers or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"the recipe's figures gave {name!r}: {value!r}; give a number, or a mapping of task ids to numbers")
    write_json(run.path / OWN, {"code": code, "figures": figures})


def own_code(run: Path) -> str:
    """The code that gave the figures that are kept; nothing if there are none."""
    return str(json.loads((run / OWN).read_text())["code"]) if (run / OWN).is_file() else ""


def _own(run: RunFolder) -> dict[str, Figure]:
    kept = json.loads((run.path / OWN).read_text())["figures"] if (run.path / OWN).is_file() else {}
    return {name: Figure.over(value) if isinstance(value, dict) else Figure(float(value)) for name, value in kept.items()}


def _successes(run: RunFolder) -> dict[str, Figure]:
    """Success before and after, over all tasks and by level: of each task the mean over its valid tries."""
    if not run.evals():
        return {}
    rows = query(
        run.path,
        "select phase, level, task, avg(success::int) as success from episodes "
        "where valid and (phase like 'eval-before-%' or phase like 'eval-after-%') group by all order by all",
    )
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        _, when, mode = row["phase"].split("-", 2)
        for name in (f"{when}/{mode}", f"{when}/{mode}/{row['level']}"):
            found[name][row["task"]] = row["success"]
    return {name: Figure.over(tasks) for name, tasks in found.items()}


def _metrics(run: RunFolder) -> dict[str, Figure]:
    """What else evaluations measure, by level."""
    known = {"eval", "step", "mode", "level", "success", "tasks"}
    return {
        f"{row['eval']}/{row['mode']}/{row['level']}/{name}": Figure(float(value))
        for row in run.evals()
        for name, value in row.items()
        if row["eval"] in ("before", "after") and name not in known and isinstance(value, int | float)
    }


def _cost(run: RunFolder) -> dict[str, Figure]:
    summary, rows = run.summary(), run.metrics()
    cost = {"steps": summary["steps"], "seconds": summary["seconds"]}
    for name, metric in SUMS.items():
        cost[name] = sum(value for row in rows for key, value in row.items() if key.rpartition("/")[2] == metric)
    return {f"cost/{name}": Figure(float(value)) for name, value in cost.items()}
