"""The protocol, and the trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """One run in one tracker.  What these raise is told once, and costs the run nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def artifact(self, path: Path, name: str) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a tracker is opened with.  step: that the run goes on after; 0 for a new one.  known: its own name for the run, if it has been
    opened for it before."""

    run: Path
    config: Mapping[str, Any]
    step: int = 0
    known: str | None = None

    @property
    def project(self) -> str:
        return "sojourn"


class Module(Protocol):
    """What a module of a tracker has."""

    def check(self) -> None:
        """Raise `ValueError`, with the remedy, if it could not be opened: no login, no server."""
        ...

    open: Callable[[Start], tuple[Tracker, str]]
    """The tracker, and its own name for the run, by which it is opened again."""


TRACKERS: dict[str, str] = {"wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow", "tensorboard": "tensorboard"}
"""Name: the package that it needs, and the extra that brings it."""


def split(names: str) -> list[str]:
    """The trackers of an option.  Raises `ValueError` for one that is not there.

    >>> split("wandb, mlflow")
    ['wandb', 'mlflow']
    """
    found = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in found:
        if name not in TRACKERS:
            near = get_close_matches(name, TRACKERS, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"track: there is no tracker '{name}'{hint}  There is {', '.join(TRACKERS)}")
    return found


def installed(name: str) -> bool:
    return find_spec(TRACKERS[name]) is not None


def check(names: Sequence[str]) -> None:
    """Raise for a tracker that could not be opened: `ImportError` without its package, `ValueError` without a login or a server."""
    for name in names:
        if not installed(name):
            raise ImportError(f"tracker '{name}' is not installed: pip install 'sojourn[{name}]'")
        _module(name).check()


def open_all(names: Sequence[str], start: Start, known: Mapping[str, str]) -> dict[str, tuple[Tracker, str]]:
    """The trackers by name, each with its own name for the run.  known: those names, where they were opened before."""
    found = {}
    for name in names:
        one = Start(run=start.run, config=start.config, step=start.step, known=known.get(name))
        try:
            found[name] = _module(name).open(one)
        except Exception as error:
            raise ValueError(f"tracker '{name}' cannot be opened: {type(error).__name__}: {error}") from error
    return found


def _module(name: str) -> Any:
    return import_module(f"sojourn.trackers.{name}_")
