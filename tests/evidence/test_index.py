"""The list of recipes: from docstring, WORLD and RESULTS.json; the page in the docs is what they say now."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from sojourn.evidence.index import entry, table

REPOSITORY = Path(__file__).parents[2]
RECIPE = '"""Blocks are stacked.\n\nAfter arXiv 2305.14992 and arXiv:2310.04406, again arXiv 2305.14992.\n"""\nWORLD = "blocks"\n'


def write(folder: Path, **claim: object) -> Path:
    path = folder / "area/stack.py"
    (folder / "area/stack").mkdir(parents=True)
    path.write_text(RECIPE)
    told = {"says": "it stacks", "threshold": "at least 50%", "verdict": "held", "value": 0.75, "low": 0.6, "high": 0.9}
    results = {
        "claims": {"one": told | {"form": ".0%"} | claim},
        "runs": [{"figures": {"cost/seconds": seconds}} for seconds in (60, 90, 240)],
    }
    (folder / "area/stack/RESULTS.json").write_text(json.dumps(results))
    return path


def test_an_entry_says_what_the_recipe_and_its_results_say(tmp_path: Path) -> None:
    found = entry("area/stack", write(tmp_path))
    assert (found.area, found.says, found.world) == ("area", "Blocks are stacked.", "blocks")
    assert found.papers == "2305.14992, 2310.04406"
    assert (found.minutes, found.page) == ("1.5, 6", "")
    assert found.shows == ("it stacks: 75% (60% to 90%) (at least 50%: held)",)


def test_results_of_another_kind_or_none_show_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "area/stack/RESULTS.json").write_text('{"threshold": 0.1, "runs": [{"seed": 0}]}')
    (tmp_path / "area/stack/RESULTS.md").touch()
    found = entry("area/stack", path)
    assert (found.shows, found.minutes, found.page) == ((), "", "recipes/area/stack/RESULTS.md")


def test_a_cell_does_not_end_the_table(tmp_path: Path) -> None:
    lines = table({"area/stack": write(tmp_path, says="a | b")})
    assert "a \\| b: 75%" in lines[2]


def test_the_page_of_recipes_is_what_the_results_say() -> None:
    script = runpy.run_path(str(REPOSITORY / "docs/recipes_index.py"))
    assert script["render"]() == (REPOSITORY / "docs/recipes.md").read_text(), "run python docs/recipes_index.py"
