"""One row a recipe: what it is, the paper, the world, how long a run takes, what came of it.

The one idea: nothing is written by hand.  What a recipe is stands in its docstring and its `WORLD`, read without running it; what came of it
stands in the `RESULTS.json` beside it, which `sojourn reproduce` wrote.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sojourn.evidence.page import shown
from sojourn.evidence.results import read

PAPER = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A recipe in the list.  Texts are empty where there is nothing to say."""

    name: str
    says: str
    papers: str
    world: str
    minutes: str
    """Of one run, and of all that the results took."""
    shows: tuple[str, ...]
    """Each claim's number and verdict."""
    page: str
    """Where that is told in full."""

    @property
    def area(self) -> str:
        return self.name.rpartition("/")[0]


def entry(name: str, path: Path) -> Entry:
    """What is known of the recipe in the file `path`."""
    try:
        module = ast.parse(path.read_bytes())
    except SyntaxError as error:
        says = f"cannot be read: {error.msg}, line {error.lineno}"
        return Entry(name=name, says=says, papers="", world="", minutes="", shows=(), page="")
    text = ast.get_docstring(module) or ""
    found = read(path.with_suffix(""))
    return Entry(
        name=name,
        says=text.split("\n")[0],
        papers=", ".join(dict.fromkeys(PAPER.findall(text))),
        world=_world(module),
        minutes=_minutes(found),
        shows=tuple(_claims(found)),
        page=f"recipes/{name}/RESULTS.md" if (path.with_suffix("") / "RESULTS.md").exists() else "",
    )


def table(recipes: Mapping[str, Path]) -> list[str]:
    """The list as lines of Markdown, by area."""
    head = ("recipe", "what it is", "arXiv", "world", "minutes: a run, all", "what it shows")
    entries = sorted((entry(name, path) for name, path in recipes.items()), key=lambda each: (each.area, each.name))
    rows = [(f"`{each.name}`", each.says, each.papers, each.world, each.minutes, "; ".join(_shown(each))) for each in entries]
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _shown(each: Entry) -> list[str]:
    return [*each.shows, *([f"`{each.page}`"] if each.page else [])]


def _claims(found: Mapping[str, Any]) -> Iterator[str]:
    for claim in found.get("claims", {}).values():
        threshold = "" if claim["threshold"] == "none" else f" ({claim['threshold']}: {claim['verdict']})"
        yield f"{claim['says']}: {shown(claim)}{threshold}"


def _minutes(found: Mapping[str, Any]) -> str:
    seconds = [run["figures"]["cost/seconds"] for run in found.get("runs", [])]
    return f"{median(seconds) / 60:.1f}, {sum(seconds) / 60:.0f}" if seconds else ""


def _world(module: ast.Module) -> str:
    """What `WORLD` says, if it is a text."""
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == "WORLD" for target in targets)
        if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return ""
