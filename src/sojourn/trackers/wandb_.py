"""Weights & Biases.  WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline and its other settings are as everywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sojourn.trackers.tracker import Start


def check() -> None:
    """Without a login it would ask for one in the middle of a log, or fail at the first number."""
    import wandb

    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    try:
        known = wandb.login(prompt=False, verify=False)
    except Exception as error:
        raise ValueError(_without(str(error))) from error
    if not known:
        raise ValueError(_without("no key is known"))


def _without(why: str) -> str:
    return f"tracker 'wandb' has no login ({why}): run `wandb login`, set WANDB_API_KEY, or keep it here with WANDB_MODE=offline"


def open(start: Start) -> tuple[Wandb, str]:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", start.project),
        name=start.run.name,
        id=start.known,
        resume="allow" if start.known else None,
        dir=str(start.run),
        config=dict(start.config),
    )
    run.define_metric("*", step_metric="step")  # its own count of calls is no step: a run that goes on writes some again
    return Wandb(run), run.id


class Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def artifact(self, path: Path, name: str) -> None:
        import wandb

        artifact = wandb.Artifact(f"{name}-{self._run.id}", type=name)
        artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self) -> None:
        self._run.finish()
