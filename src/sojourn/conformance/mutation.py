"""How much the checks see: each planted defect in turn, in a process of its own, until a check fails.

A process is a fork of one that has loaded everything, so that a defect costs the checks alone.  It puts the changed functions in place
of the live ones by swapping their code, and runs the checks until the first one fails.  Checks that start processes or load a model
are left out: they look at layouts, not at formulas.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import getsourcefile, unwrap
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NamedTuple

from sojourn.conformance.checks import CHECKS, outcome
from sojourn.conformance.ours import Ours
from sojourn.conformance.planted import PLANTED

WORKERS = 2
SECONDS = 3600
"""For all defects together."""
SLOW = ("I1 what", "I3 own", "I4 any", "I5 a shared", "I8 a broken")
"""How the names of the checks begin that start processes or load a model."""
ASKED = {name: check for name, check in reversed(CHECKS.items()) if not name.startswith(SLOW)}
"""Numbers first, which see most."""


class Defect(NamedTuple):
    """One planted defect: a file of the package, what stands there, and what takes its place."""

    file: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}: {self.before.strip()} -> {self.after.strip()}"


DEFECTS = [Defect(file, *texts) for file, each in PLANTED.items() for texts in each]


@contextmanager
def planted(defect: Defect) -> Iterator[None]:
    """Change the live functions of this process, and change them back.  Raises ValueError if there is nothing to change."""
    live = import_module("sojourn." + defect.file.removesuffix(".py").replace("/", "."))
    source = Path(getsourcefile(live) or "").read_text()
    if source.count(defect.before) != 1:
        raise ValueError(
            f"planted.py: '{defect.before}' stands {source.count(defect.before)} times in {defect.file}; correct the list"
        )
    fresh = ModuleType(live.__name__)
    exec(compile(source.replace(defect.before, defect.after), defect.file, "exec"), fresh.__dict__)
    new, old = _functions(fresh), {name: function.__code__ for name, function in _functions(live).items()}
    if all(new[name].__code__ == code for name, code in old.items()):
        raise ValueError(f"planted.py: '{defect}' is in no function, and only functions can be changed")
    for name, function in _functions(live).items():
        function.__code__ = new[name].__code__
    try:
        yield
    finally:
        for name, function in _functions(live).items():
            function.__code__ = old[name]


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """The functions and methods that are written in a module, without their decorators, by name."""
    own = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
    members = [*own, *(member for each in own if isinstance(each, type) for member in vars(each).values())]
    bare = [
        unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
        for member in members
        if not isinstance(member, type)
    ]
    return {
        each.__qualname__: each
        for each in bare
        if isinstance(each, FunctionType) and each.__module__ == module.__name__ and each.__code__.co_filename != "<string>"
    }


def caught_by(number: int) -> str | None:
    """Plant a defect in this process and name the first check that fails, None if all pass."""
    import torch

    torch.set_num_threads(1)
    with planted(DEFECTS[number]):
        return next((name for name, check in ASKED.items() if outcome(check, Ours()).passed is False), None)


def measure() -> dict[Defect, str | None]:
    """The check that catches each planted defect, None for those that survive.  Raises ValueError if one can't be planted."""
    with multiprocessing.get_context("fork").Pool(WORKERS, maxtasksperchild=1) as pool:
        waiting = [pool.apply_async(caught_by, (number,)) for number in range(len(DEFECTS))]
        return {defect: each.get(SECONDS) for defect, each in zip(DEFECTS, waiting, strict=True)}


def share(seen: dict[Defect, str | None]) -> float:
    """Of the planted defects, how many were caught."""
    return sum(check is not None for check in seen.values()) / len(seen)


def as_text(seen: dict[Defect, str | None]) -> str:
    """The figure, and the survivors by name."""
    alive = [defect for defect, check in seen.items() if check is None]
    head = f"{len(seen)} defects planted in {len(PLANTED)} files of formulas, {len(seen) - len(alive)} caught ({share(seen):.0%})"
    return "\n".join([head, *(f"survived  {defect}" for defect in alive)])
