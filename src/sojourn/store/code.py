"""The code that a run is made of: found, kept in the run folder, and compared when the run goes on.

The one idea: what a module imports stands in its text, so the files are found by reading, from the recipe or the main program onwards,
wherever an `import` stands.  Own code is what lies outside the standard library, the installed packages and Sojourn itself, whose
versions `starts.jsonl` holds.  Data files are not found.

    RUN/code/step-000000/recipe.py, rewards.py, ...     as it was from the first step on
    RUN/code/step-000040/...                            as it was from step 41 on, where it changed
"""

from __future__ import annotations

import ast
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from sojourn.store.files import write_atomic

RECIPE = "sojourn_recipe_"
"""Recipes are modules whose name begins so; the copy of one is `recipe.py`."""


def code_of(modules: Iterable[str]) -> dict[str, Path]:
    """The files of the modules of these names, and of all own code that they import: by the name of the copy (`area/rewards.py`)."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = [name for name in modules if _file(name)]
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if name in seen or file is None or not (is_own(file) or name.startswith(RECIPE)):
            continue
        seen.add(name)
        copy = _copy(name, file)
        if found.setdefault(copy, file) != file:
            raise ValueError(f"two files would be kept as {copy}: {found[copy]} and {file} (rename one)")
        waiting += _imports(name, file)
    return dict(sorted(found.items()))


def modules_of(parts: Iterable[object]) -> list[str]:
    """Names of the modules that define these parts of a run, and of the main program."""
    found = {"__main__"}
    for part in parts:
        if isinstance(part, Mapping | tuple | list):
            found.update(modules_of(part.values() if isinstance(part, Mapping) else part))
        elif isinstance(part, partial):
            found.update(modules_of([part.func, *part.args, *part.keywords.values()]))
        else:
            found.add(getattr(part, "__module__", None) or type(part).__module__)
    return sorted(found)


def keep_code(run: Path, step: int, files: Mapping[str, Path]) -> list[str]:
    """Copy `files`, with which the run goes on after `step`, unless the newest copy equals them; returns how they differ from that, a
    line a file."""
    newest, target = kept_code(run), run / "code" / f"step-{step:06d}"
    changes = [] if newest is None else _changes(newest, files)
    for undone in [folder for folder in _copies(run) if folder.name > target.name]:
        shutil.rmtree(undone)
    if files and (changes or kept_code(run) is None):
        shutil.rmtree(target, ignore_errors=True)  # of a start that came no further than this one
        write_atomic(target, lambda temporary: _copy_all(files, temporary))
    return changes


def kept_code(run: Path) -> Path | None:
    """The folder of the newest copy of a run's code."""
    return max(_copies(run), default=None)


def _copies(run: Path) -> list[Path]:
    return sorted((run / "code").glob("step-*"))


def fingerprints(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file."""
    return {name: sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@cache
def package_fingerprint() -> str:
    """SHA-256 of Sojourn's own sources, by name and content, as they are now."""
    root, digest = Path(__file__).resolve().parents[1], sha256()
    for file in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".c")):
        if not file.is_relative_to(root / "recipes"):
            digest.update(f"{file.relative_to(root).as_posix()} {sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def is_own(file: Path) -> bool:
    """Whether a file is neither the standard library's, nor an installed package's, nor Sojourn's."""
    path = file.resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return path.suffix == ".py" and not installed and not any(path.is_relative_to(folder) for folder in _foreign())


@cache
def _foreign() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")) + (Path(__file__).resolve().parents[1],)


def _file(name: str) -> Path | None:
    """Where a module's source lies, loaded or not.  Installed packages are not imported to find out."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded or name in sys.modules:
        return Path(loaded) if loaded else None
    top = _spec(name.partition(".")[0])
    if top is None or not _may_be_own(top):
        return None
    spec = _spec(name)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, AttributeError, ValueError):  # there is no such module, or its package cannot be imported
        return None


def _may_be_own(spec: ModuleSpec) -> bool:
    places = [spec.origin] if spec.has_location and spec.origin else [f"{p}/x.py" for p in spec.submodule_search_locations or ()]
    return any(is_own(Path(place)) for place in places)


def _copy(name: str, file: Path) -> str:
    if name.startswith(RECIPE):
        return "recipe.py"
    if name == "__main__":
        return file.name
    path = name.replace(".", "/")
    return f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"


def _imports(name: str, file: Path) -> Iterator[str]:
    """Names of modules that a file imports, and of the packages that hold them; some may be no modules."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_packages(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: n + 1]) for n in range(len(parts)))


def _changes(kept: Path, files: Mapping[str, Path]) -> list[str]:
    old = fingerprints({path.relative_to(kept).as_posix(): path for path in sorted(kept.rglob("*.py"))})
    new = fingerprints(files)
    words = {(True, True): "was edited", (True, False): "is no longer part of it", (False, True): "is new"}
    return [f"{n} {words[n in old, n in new]}" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]


def _copy_all(files: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, file in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
