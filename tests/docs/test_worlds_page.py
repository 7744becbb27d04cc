"""The page of the worlds is what their READMEs say, and each listed world has one."""

import runpy
from pathlib import Path

from sojourn.environments.listing import ENVIRONMENTS

REPOSITORY = Path(__file__).parents[2]
APART = ("small/", "gymnasium/", "openspiel/", "pettingzoo/", "textarena/")
"""Worlds that other pages tell of."""


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(REPOSITORY / "docs/worlds.py"))
    assert script["render"]() == (REPOSITORY / "docs/worlds.md").read_text(encoding="utf-8"), "run python docs/worlds.py"


def test_each_listed_world_is_told_of() -> None:
    page = (REPOSITORY / "docs/worlds.md").read_text(encoding="utf-8")
    missing = [
        name
        for name in ENVIRONMENTS
        if not name.startswith(APART) and f"`{name}`" not in page and name.split("/<")[0] not in page
    ]
    assert not missing
