"""Writes the table of algorithms into docs/algorithms.md, between its two markers.

python docs/algorithms_table.py            (--check: only say whether the page is up to date)
"""

from __future__ import annotations

import sys
from pathlib import Path

from sojourn.objectives.presets import table

PAGE = Path(__file__).with_name("algorithms.md")
START, END = "<!-- table: start -->", "<!-- table: end -->"
HEAD = ["name", "algorithm", "paper", "credit", "ratio / trust region", "KL in the loss", "mean over", "and"]


def render() -> str:
    """The page with a fresh table."""
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (HEAD, ["---"] * len(HEAD), *table())]
    before, rest = PAGE.read_text().split(START)
    return before + START + "\n" + "\n".join(rows) + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(0 if page == PAGE.read_text() else "docs/algorithms.md is out of date: run python docs/algorithms_table.py")
    PAGE.write_text(page)
