"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is a folder written under a temporary name and renamed when complete, so a kill or a full disk leaves the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sojourn.engine.adapters import active, trained
from sojourn.learner import Learner
from sojourn.store import write_atomic

PREFIX = "step-"
LEAD = "trained.safetensors"
"""The weights of the role that a run leads with; those of others are in files of their own."""
BEST = "best"
"""What leads to the best checkpoint."""


class Stateful(Protocol):
    """A critic, a reference that moves."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Trained:
    """The trained weights of a model, or of one of its adapters, for a checkpoint."""

    def __init__(self, model: torch.nn.Module, adapter: str | None = None) -> None:
        self._model, self._adapter = model, adapter

    def state_dict(self) -> dict[str, Any]:
        return {name: p.detach() for name, p in trained(self._model, self._adapter).items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises `KeyError` with the names that one of the two lacks or has in another shape."""
        own = trained(self._model, self._adapter)
        if lost := [n for n in sorted(own.keys() | state) if n not in own or n not in state or own[n].shape != state[n].shape]:
            raise KeyError(*lost)
        for name, parameter in own.items():
            parameter.copy_(state[name])


def save(
    folder: Path, step: int, learner: Learner, state: dict[str, Any], others: Mapping[str, Stateful], *, keep: int = 1
) -> Path:
    """Write the checkpoint of `step` and drop those before the last `keep`, but for the best.  Raises `DiskFullError`; then the older
    ones are still there."""
    target = folder / f"{PREFIX}{step:06d}"
    weights = Trained(learner.model, learner.adapter).state_dict()

    def write(path: Path) -> None:
        path.mkdir()
        save_file(weights, path / LEAD)
        for name, each in {"optimizer": learner.optimizer, **others}.items():
            torch.save(each.state_dict(), path / f"{name}.pt")
        (path / "state.json").write_text(json.dumps({"step": step, **state}))

    if target not in _all(folder):
        shutil.rmtree(target, ignore_errors=True)  # what a kill left of its removal
        write_atomic(target, write)
    prune(folder, step, keep)
    return target


def prune(folder: Path, step: int, keep: int) -> None:
    """Drop checkpoints, but for the last `keep` up to `step` and the best."""
    kept = [path for path in _all(folder) if _step(path) <= step][-keep:]
    for old in folder.glob(f"{PREFIX}*"):
        if old not in kept and old != best(folder):
            shutil.rmtree(old)


def mark_best(folder: Path, step: int) -> None:
    """Let `best` lead to the checkpoint of `step`, in one go."""
    link = folder / f".{BEST}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(f"{PREFIX}{step:06d}")
    link.replace(folder / BEST)


def best(folder: Path) -> Path | None:
    """The best checkpoint, where one is marked and complete."""
    path = folder / BEST
    return folder / path.readlink() if path.is_symlink() and (path / "state.json").exists() else None


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    found = _all(folder)
    return found[-1] if found else None


def load_weights(
    path: Path, model: torch.nn.Module, adapter: str | None = None, *, file: str = LEAD, version: int | None = None
) -> None:
    """Put trained weights of a checkpoint into `model`, of an adapter into `adapter` or the active one.

    file: whose; the lead's if nothing is said.  version: of a file of former selves.  Raises `ValueError` if they are of another model or
    cannot be read.
    """
    with _readable(path):
        found: Any = load_file(path / file) if file == LEAD else torch.load(path / file, weights_only=True)
        weights: dict[str, torch.Tensor] = found if version is None else found[version]
    try:
        Trained(model, active(model) if adapter is None else adapter).load_state_dict(weights)
    except KeyError as error:
        raise ValueError(
            f"checkpoint {path} does not fit this model, for example {error.args[0]}: use the run's own model and lora_rank"
        ) from error


def roles(path: Path) -> dict[str, dict[str, Any]]:
    """What a checkpoint says of the roles of its run, the lead first: `model`, `lora_rank`, `file`; empty if it says nothing."""
    with _readable(path):
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return dict(state.get("roles", {}))


def rank(path: Path) -> int:
    """Of the adapter whose weights a checkpoint holds; 0 if they are a whole model's."""
    with _readable(path), safe_open(path / LEAD, "pt") as file:
        return next((file.get_slice(name).get_shape()[0] for name in file.keys() if ".lora_A." in name), 0)  # noqa: SIM118


def load(path: Path, learner: Learner, others: Mapping[str, Stateful]) -> dict[str, Any]:
    """Restore weights, optimizer and the others; returns the state given to `save`, with `step`."""
    load_weights(path, learner.model, learner.adapter)
    restore(path, {"optimizer": learner.optimizer, **others})
    with _readable(path):
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return state


def restore(path: Path, states: Mapping[str, Stateful]) -> None:
    """Restore what was saved, by its names."""
    with _readable(path):
        for name, each in states.items():
            each.load_state_dict(torch.load(path / f"{name}.pt", weights_only=True))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that is missing or broken, told in a sentence."""
    try:
        yield
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, SafetensorError, UnpicklingError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"checkpoint {path} cannot be read: {said} (bring it back from a copy, or remove this folder; then the run starts again)"
        ) from error


def _all(folder: Path) -> list[Path]:
    """The complete ones, in the order of their steps."""
    found = [path for path in folder.glob(f"{PREFIX}*") if (path / "state.json").exists()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))
