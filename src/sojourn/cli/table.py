"""Tables as wide as they are, in a file too, and that of success rates with their 95 % intervals."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def show(table: Table) -> None:
    """Print a table: within the terminal's width, or 200 columns where there is none."""
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def rates(evals: Sequence[Row]) -> Table:
    """A row for each level and mode, a column for `before` and `after`; of evaluations of one kind the last counts.

    evals: rows with `eval`, `mode`, `level`, `success` (a share) and `tasks`.
    """
    by_key = {(row["level"], row["mode"], row["eval"]): row for row in evals}
    columns = [when for when in ("before", "after", "now") if any(key[2] == when for key in by_key)]
    table = Table("level", "sampling", *columns, title="success on held-out tasks (95 % interval)", title_justify="left")
    for level, mode in dict.fromkeys(key[:2] for key in by_key):
        table.add_row(level, mode, *(rate(by_key.get((level, mode, when))) for when in columns))
    return table


def rate(row: Row | None) -> str:
    """
    >>> rate({"success": 0.5, "tasks": 64})
    '50.0 % (38 to 62, n = 64)'
    """
    from sojourn.wilson import wilson

    if row is None or not row["tasks"]:
        return "-"
    low, high = (100 * bound for bound in wilson(row["success"], row["tasks"]))
    failed = f", {row['failed']} failed" if row.get("failed") else ""
    return f"{100 * row['success']:.1f} % ({low:.0f} to {high:.0f}, n = {row['tasks']}{failed})"
