"""Recipes: a Python file with a frozen dataclass `Config(TrainConfig)` and a function `experiment(config) -> Experiment`.

A recipe is looked for in `./recipes`, then among those that come with Sojourn; a path that ends in `.py` is taken as it is.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import sojourn
from sojourn.cli import nearest

if TYPE_CHECKING:
    from sojourn.training import Experiment, TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A loaded recipe."""

    name: str
    path: Path
    config: type[TrainConfig]
    experiment: Callable[[TrainConfig], Experiment]


def folders() -> list[Path]:
    """Where recipes are looked for, in this order; the last is the wheel's, or that of the source tree."""
    package = Path(sojourn.__file__).parent
    places = (Path("recipes"), package / "recipes", package.parents[1] / "recipes")
    found = {place.resolve(): place for place in reversed(places) if place.is_dir()}
    return [place for place in places if found.get(place.resolve()) == place]


def available() -> dict[str, Path]:
    """All recipes by name; one in `./recipes` hides one of the same name that comes with Sojourn."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.rglob("*.py")):
            if _is_recipe(path):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def find(name: str) -> Path:
    """The file of a recipe.  Raises ValueError with the nearest name and the list."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ValueError(f"there is no recipe file {name}")
        return Path(name)
    known = available()
    if name not in known:
        listed = ", ".join(known) or "none"
        raise ValueError(f"there is no recipe '{name}'{nearest(name, known) or '.'}  Recipes: {listed}; or give a file NAME.py")
    return known[name]


def load(name: str) -> Recipe:
    """Import a recipe.  Raises ValueError if there is none of that name, or if it lacks `Config` or `experiment`."""
    path = find(name)
    module = _import(path)
    config: Any = getattr(module, "Config", None)
    experiment: Any = getattr(module, "experiment", None)
    is_config = isinstance(config, type) and dataclasses.is_dataclass(config)
    if not is_config or not callable(experiment):
        raise ValueError(
            f"{path} is no recipe: it needs a frozen dataclass `Config(TrainConfig)` and a function `experiment(config)`"
        )
    known: type[TrainConfig] = config  # type: ignore[assignment, unused-ignore]
    return Recipe(path.stem if name.endswith(".py") else name, path, known, experiment)


def summary(path: Path) -> str:
    """The first line of a recipe's docstring, read without running it."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def _is_recipe(path: Path) -> bool:
    names = {getattr(node, "name", "") for node in ast.parse(path.read_text()).body}
    return {"Config", "experiment"} <= names


def _import(path: Path) -> ModuleType:
    """The file as a module, with no compiled copy left beside it.  It is entered in `sys.modules`, where dataclasses and tyro look
    up its names."""
    spec = spec_from_file_location(f"sojourn_recipe_{path.stem}", path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module
