"""Writes the list of recipes into docs/recipes.md, between its two marks, from the recipes and their RESULTS.json.

python docs/recipes_index.py            (--check: only say whether the page is up to date)
"""

from __future__ import annotations

import sys
from pathlib import Path

from sojourn.evidence.index import table

PAGE = Path(__file__).with_name("recipes.md")
RECIPES = Path(__file__).parents[1] / "recipes"
START, END = "<!-- index: start -->", "<!-- index: end -->"


def shipped() -> dict[str, Path]:
    """The recipes of this repository by name."""
    from sojourn.cli.recipe import _is_recipe

    files = [path for path in sorted(RECIPES.rglob("*.py")) if _is_recipe(path)]
    return {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in files}


def render() -> str:
    """The page with a fresh list."""
    before, rest = PAGE.read_text().split(START)
    return before + START + "\n" + "\n".join(table(shipped())) + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(0 if page == PAGE.read_text() else "docs/recipes.md is out of date: run python docs/recipes_index.py")
    PAGE.write_text(page)
