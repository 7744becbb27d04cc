"""What evaluations measured beside success: pass@k, pass^k, maj@n, and numbers of a recipe's own, before against after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
KNOWN = ("eval", "step", "mode", "level", "success", "tasks")
SHARES = ("pass@", "pass^", "maj@", "baseline/")
"""How the names of shares begin."""


def measures(evals: Sequence[Row]) -> list[Row]:
    """One table for each evaluation that measured anything more: a row for each level and number, `before`, `during` the last, `after`.

    >>> measures([{"eval": "after", "step": 9, "mode": "hard", "level": "3", "success": 0.5, "tasks": 8, "pass@4": 0.75}])
    [{'mode': 'hard', 'rows': [{'level': '3', 'name': 'pass@4', 'share': True, 'after': 0.75}]}]
    """
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in evals:
        for name, value in row.items():
            if name in KNOWN or not isinstance(value, int | float):
                continue
            share = name.startswith(SHARES) or name.endswith("/success")
            place = found.setdefault(row["mode"], {}).setdefault(
                (row["level"], name), {"level": row["level"], "name": name, "share": share}
            )
            place[row["eval"]] = value
    return [{"mode": mode, "rows": list(rows.values())} for mode, rows in found.items()]
