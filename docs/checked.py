"""Writes the table of docs/checking.md, between its two markers, from what `sojourn check` wrote.

python docs/checked.py FILE.json ...        (files of `sojourn check ENV --json`, or of `sojourn check all --json`)
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("checking.md")
BLOCK = re.compile(r"<!-- table -->\n.*?<!-- end -->", re.DOTALL)


def rows(files: list[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each world and its report; what was skipped is left out."""
    for file in files:
        page = json.loads(file.read_text(encoding="utf-8"))
        if "environment" in page:
            yield page["environment"], page
        else:
            yield from ((name, report) for name, report in page.items() if "agents" in report)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| world | episodes of an agent | random | oracle | best hack | flat groups of random | findings |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in sorted(found.items()):
        agents, hacks = report["agents"], report["hacks"]
        best = max(hacks, key=lambda hack: (_share(hacks[hack]), hacks[hack]["mean"]))
        shown = f"{_percent(hacks[best])} ({best})" if _share(hacks[best]) else "0 %"
        oracle = _percent(agents["oracle"]) if "oracle" in agents else "none"
        findings = "; ".join(report["findings"]) or "none"
        cells = (
            f"`{name}`",
            str(agents["silent"]["episodes"]),
            _percent(agents["random"]),
            oracle,
            shown,
            f"{100 * report['flat']:.0f} %",
            findings,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(score: Mapping[str, Any]) -> float:
    return score["solved"] / score["episodes"] if score["episodes"] else 0.0


def _percent(score: Mapping[str, Any]) -> str:
    return f"{100 * _share(score):.0f} %"


if __name__ == "__main__":
    text = table(dict(rows([Path(name) for name in sys.argv[1:]])))
    PAGE.write_text(
        BLOCK.sub(lambda _: f"<!-- table -->\n{text}\n<!-- end -->", PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )
