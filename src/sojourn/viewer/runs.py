"""Which runs there are under the folders that were named, and how each is doing.

The one idea: a run is known by its name under those folders, so no path ever comes from the page.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sojourn.store import RunFolder
from sojourn.store.files import read_rows

DEPTH = 3
"""Folders below a named one in which runs are looked for."""
MARKS = ("config.json", "metrics.jsonl")
WATCHED = ("config.json", "metrics.jsonl", "evals.jsonl", "summary.json", "league.json", "starts.jsonl", "episodes")


def is_run(path: Path) -> bool:
    return any((path / mark).is_file() for mark in MARKS)


def find_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The runs by name: the folder's own name, or its path below the named folder; of equal names the later ones get a number.

    Raises `ValueError` for a folder that is not there.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder (give run folders, or a folder that holds some, as runs)")
        for path in [folder] if is_run(folder) else _below(folder, DEPTH):
            name = path.resolve().name if path == folder else path.relative_to(folder).as_posix()
            same = sum(known == name or known.rpartition(" #")[0] == name for known in found)
            if path.resolve() not in (known.resolve() for known in found.values()):
                found[f"{name} #{same + 1}" if same else name] = path
    return found


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if depth else ():
        if path.is_dir() and not path.name.startswith("."):
            if is_run(path):
                yield path
            else:
                yield from _below(path, depth - 1)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a run is doing."""

    name: str
    state: str
    """running, stopped, finished"""
    step: int
    steps: int | None
    reward: float | None
    success: float | None
    model: str


def standing(name: str, path: Path, metrics: Sequence[dict[str, Any]] | None = None) -> Standing:
    """How a run is doing, by what lies in its folder."""
    run = RunFolder(path)
    config = run.config()
    last = (run.metrics() if metrics is None else metrics)[-1:]
    row = last[0] if last else {}
    state = "finished" if run.summary() else "running" if is_written(path) else "stopped"
    steps = config.get("steps")
    return Standing(
        name=name,
        state=state,
        step=int(row.get("step") or 0),
        steps=steps if isinstance(steps, int) else None,
        reward=row.get("reward"),
        success=row.get("success"),
        model=str(config.get("model", "")) if not isinstance(config.get("model"), dict) else str(config["model"].get("name", "")),
    )


def is_written(path: Path) -> bool:
    """Whether the process that last wrote into the folder lives, as far as this machine knows.  The lock itself is left alone: to try it
    could cost a run that starts just then."""
    for row in read_rows(path / ".writer.json")[-1:]:
        try:
            os.kill(int(row["pid"]), 0)
        except (OSError, ValueError, KeyError):
            return False
        return bool(row.get("host") == socket.gethostname())
    return False


def stamp(path: Path) -> str:
    """A text that changes when anything is written into the run folder."""
    parts = []
    for name in WATCHED:
        try:
            stat = (path / name).stat()
        except OSError:
            continue
        parts.append(f"{stat.st_mtime_ns:x}.{stat.st_size:x}")
    return "-".join(parts)
