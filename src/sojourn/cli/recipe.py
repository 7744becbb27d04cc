"""Recipes: a Python file with a frozen dataclass `Config(TrainConfig)` and a function `experiment(config) -> Experiment`.

A recipe is looked for in `./recipes`, then among those that come with Sojourn; a path that ends in `.py` is taken as it is.  It may
import modules and packages that lie beside it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any

import sojourn
from sojourn.cli import nearest
from sojourn.store.code import RECIPE, is_own

if TYPE_CHECKING:
    from sojourn.training import Experiment, TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A loaded recipe."""

    name: str
    path: Path
    config: type[TrainConfig]
    experiment: Callable[[Any], Any]
    module: ModuleType

    def parts(self, config: TrainConfig) -> Experiment:
        """What its function `experiment` makes.  Raises ValueError if that is no Experiment."""
        from sojourn.training import Experiment

        made = self.experiment(config)
        if not isinstance(made, Experiment):
            shown = (
                "None; return the Experiment that it makes"
                if made is None
                else f"a {type(made).__name__}, expected an Experiment"
            )
            raise ValueError(f"recipe {self.path}: experiment(config) returned {shown}")
        return made


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
    """Import a recipe.  Raises ValueError if there is none of that name, if it cannot be imported, or lacks `Config` or `experiment`."""
    from sojourn.training import TrainConfig

    path = find(name)
    module = import_file(path)
    config: Any = getattr(module, "Config", None)
    experiment: Any = getattr(module, "experiment", None)
    if not isinstance(config, type) or not issubclass(config, TrainConfig) or not callable(experiment):
        raise ValueError(
            f"{path} is no recipe: it needs a frozen dataclass `Config(TrainConfig)` and a function `experiment(config)`"
        )
    if "__dataclass_params__" not in vars(config):
        raise ValueError(f"{path}: its Config is no dataclass of its own; write @dataclass(frozen=True, kw_only=True) above it")
    return Recipe(path.stem if name.endswith(".py") else name, path, config, experiment, module)


def summary(path: Path) -> str:
    """The first line of a recipe's docstring, read without running it."""
    try:
        return (ast.get_docstring(ast.parse(path.read_bytes())) or "").split("\n")[0]
    except SyntaxError as error:
        return f"cannot be read: {error.msg}, line {error.lineno}"


def _is_recipe(path: Path, *, unreadable: bool = True) -> bool:
    """Whether a file has what a recipe has.  One that Python cannot read may be one, and is told when it is asked for."""
    try:
        names = {getattr(node, "name", "") for node in ast.parse(path.read_bytes()).body}
    except SyntaxError:
        return unreadable
    return {"Config", "experiment"} <= names


class Uncached(SourceFileLoader):
    """Leaves no compiled copy beside a file, whenever it is imported: the folder of a run's code is only read."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Writes nothing."""


class Beside(MetaPathFinder):
    """Finds modules and packages in the folder of a recipe, before any others of their name, as for a script; but no recipes, so that
    `textworld.py` may import the library of that name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, [str(self.folder)]) if path is None else None
        if (
            spec is None
            or spec.origin is None
            or (spec.origin.endswith(".py") and _is_recipe(Path(spec.origin), unreadable=False))
        ):
            return None
        self.found.add(name)
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = Uncached(name, spec.loader.path)
        return spec

    def forget(self) -> None:
        """Another recipe may have modules of the same names."""
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.partition(".")[0] in self.found]:
            del sys.modules[name]


def import_file(path: Path) -> ModuleType:
    """The file as a module, with no compiled copy left beside it.

    It is entered in `sys.modules`, where dataclasses and tyro look up its names, under a name of its own: recipes of one stem in two
    folders are two recipes.
    """
    name = f"{RECIPE}{path.stem}_{blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    spec = spec_from_file_location(name, path, loader=Uncached(name, str(path)))
    assert spec and spec.loader
    module = module_from_spec(spec)
    for finder in [each for each in sys.meta_path if isinstance(each, Beside)]:
        finder.forget()
    sys.meta_path.insert(0, Beside(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {_told(error)}") from error
    return module


def _told(error: Exception) -> str:
    """What went wrong, and the last line of own code that was reached."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    reached = [frame for frame in extract_tb(error.__traceback__) if is_own(Path(frame.filename))]
    where = f" ({reached[-1].filename}, line {reached[-1].lineno})" if reached else ""
    return f"{type(error).__name__}: {error}{where}"
