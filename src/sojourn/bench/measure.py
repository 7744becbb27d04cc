"""How things are measured: sides take turns (A B A B), medians count, and the machine's own limit is measured beside them."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sojourn.store import write_json
from sojourn.store.machine import describe_machine

Side = Callable[[], object]
"""What is timed; one that returns a float has timed itself, in seconds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What was measured in each turn of one side, in order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def each(self, make: Callable[[float], float]) -> Spread:
        """What `make` makes of each turn."""
        return Spread(tuple(map(make, self.values)))

    def rate(self, amount: float) -> Spread:
        """`amount` a second, of seconds."""
        return self.each(lambda seconds: amount / seconds)

    def page(self) -> dict[str, float]:
        return {"median": self.median, "low": min(self.values), "high": max(self.values)}

    def __str__(self) -> str:
        return "{median:.4g} ({low:.3g} to {high:.3g})".format(**self.page())


@dataclass
class Result:
    """What a benchmark found.  rows: one line of the table each, with the same keys; a cell may be a `Spread`.  file: written after each row,
    so that what was measured is there if the rest never comes."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    file: Path | None = None

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.save()

    def save(self) -> None:
        if self.file:
            write_json(self.file, self.page())

    def page(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "benchmark": self.name,
            "ratios": self.ratios,
            "skipped": self.skipped,
            "notes": self.notes,
            "rows": [
                {name: cell.page() if isinstance(cell, Spread) else cell for name, cell in row.items()} for row in self.rows
            ],
            "machine": machine(),
        }

    def show(self, console: Console) -> None:
        if self.rows:
            table = Table(*self.rows[0], title=self.name, title_justify="left")
            for row in self.rows:
                table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()))
            console.print(table)
        for name, ratio in self.ratios.items():
            console.print(f"{name} = {ratio:.3g}")
        for line in (*self.notes, *(f"skipped {peer}: {reason}" for peer, reason in self.skipped.items())):
            console.print(line, soft_wrap=True)


def alternate(sides: Mapping[str, Side], turns: int, *, warm_up: int = 1, pause_s: float = 0.0) -> dict[str, Spread]:
    """Time all sides in turn, `turns` times each, after `warm_up` turns that do not count.  `pause_s` before each lets the threads of another
    process go to sleep: after a side they wait busily for more."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        bar = progress.add_task("", total=(warm_up + turns) * len(sides))
        for turn in range(warm_up + turns):
            for name, side in sides.items():
                progress.update(bar, description=name, refresh=True)
                time.sleep(pause_s)
                began = time.perf_counter()
                own = side()
                if turn >= warm_up:
                    taken[name].append(own if isinstance(own, float) else time.perf_counter() - began)
                progress.advance(bar)
    return {name: Spread(tuple(each)) for name, each in taken.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and with."""
    return describe_machine() | {"threads": torch.get_num_threads(), "commit": _commit()}


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def linear_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Intercept, slope and the share of variance explained, by least squares.

    >>> linear_fit([1, 2, 3], [3, 5, 7])
    (1.0, 2.0, 1.0)
    """
    fit = statistics.linear_regression(x, y)
    return fit.intercept, fit.slope, statistics.correlation(x, y) ** 2


def _commit() -> str:
    """Of the checkout that this file lies in; empty for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
