"""The tables of `RESULTS.md`, between two marks; the words around them are the author's and stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sojourn.store import write_atomic
from sojourn.viewer.svg import number

BEGIN, END = "<!-- reproduce: begin -->", "<!-- reproduce: end -->"
BLOCK = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
PICTURE = "picture.svg"
COST = {"cost/steps": "steps", "cost/trained_tokens": "tokens trained", "cost/seconds": "minutes"}


def check_page(path: Path) -> None:
    """Raise `ValueError` if there is a page whose tables would have no place, before hours of runs."""
    if path.exists() and len(BLOCK.findall(path.read_text(encoding="utf-8"))) != 1:
        raise ValueError(
            f"{path} has no place for the tables, or several: put the lines {BEGIN} and {END}, once each, where they should stand"
        )


def write_page(path: Path, title: str, found: Mapping[str, Any]) -> None:
    """Write the tables into the page, or a page around them if there is none yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"# {title}\n\n{BEGIN}\n{END}\n"
    block = f"{BEGIN}\n{render(found)}\n{END}"
    fresh = BLOCK.sub(lambda _: block, text)
    write_atomic(path, lambda temporary: temporary.write_text(fresh, encoding="utf-8"))


def render(found: Mapping[str, Any]) -> str:
    """Verdicts, runs, machine, and how to make them again."""
    parts = [f"```bash\n{found['command']}\n```"]
    if found["claims"]:
        parts += [_table(("claim", "threshold", "measured", "each seed", "verdict"), map(_claim, found["claims"].values()))]
    if overs := sorted({claim["over"] for claim in found["claims"].values() if claim["over"]}):
        parts += [f"In parentheses 95 % intervals, over {' or '.join(overs)} (bootstrap: `sojourn.evidence.bootstrap`)."]
    if found["runs"]:
        parts += [_runs(found), f"![What was measured over the steps, by arm]({PICTURE})"]
    parts += [f"Machine: {_machine(machine)}." for machine in found["machines"]]
    return "\n\n".join(parts)


def shown(claim: Mapping[str, Any]) -> str:
    """
    >>> shown({"value": 0.915, "low": 0.88, "high": 0.94, "form": ".0%"})
    '92% (88% to 94%)'
    """
    if claim["value"] is None:
        return "-"
    bounds = "" if claim["low"] is None else f" ({claim['low']:{claim['form']}} to {claim['high']:{claim['form']}})"
    return f"{claim['value']:{claim['form']}}{bounds}"


def _claim(claim: Mapping[str, Any]) -> list[str]:
    seeds = ", ".join(f"{value:{claim['form']}}" for value in claim["seeds"].values())
    return [claim["says"], claim["threshold"], shown(claim), seeds, f"**{claim['verdict']}**"]


def _runs(found: Mapping[str, Any]) -> str:
    """A row for each run, and one for the mean of an arm with several seeds: what claims look at, and the cost."""
    read = list(dict.fromkeys(figure for claim in found["claims"].values() for _, figure in claim["reads"]))
    names = [*(name for name in read if name not in COST), *COST]
    rows = []
    for arm in dict.fromkeys(run["arm"] for run in found["runs"]):
        runs = [run for run in found["runs"] if run["arm"] == arm]
        rows += [[arm, str(run["seed"]), *(_cell(name, [run]) for name in names)] for run in runs]
        if len(runs) > 1:
            rows.append([arm, "mean", *(_cell(name, runs) for name in names)])
    return _table(("arm", "seed", *(COST.get(name, name) for name in names)), rows)


def _cell(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    values = [run["figures"][name] for run in runs if name in run["figures"]]
    if not values:
        return ""
    value = fmean(values)
    if name == "cost/seconds":
        return f"{value / 60:.1f}"
    return f"{value:.1%}" if any(name in run["tasks"] for run in runs) and 0 <= value <= 1 else number(value)


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "transformers") if name in machine)
    return f"{machine.get('cores')} cores of {machine.get('processor')}, {machine.get('memory_gib')} GiB; Python {machine.get('python')}, {versions}"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
