"""A whole run: load the model, resume what is there, train, evaluate, write the report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sojourn import trackers
from sojourn.data import Data
from sojourn.store import RunFolder, write_json
from sojourn.training import setup
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.run import MAY_CHANGE, Run
from sojourn.training.trainer import Trainer
from sojourn.training.world import check_world
from sojourn.viewer.progress import Progress


def train(config: TrainConfig, experiment: Experiment) -> dict[str, Any]:
    """Run, or resume, the training that `config` and `experiment` say; returns the summary.

    Everything is in the run folder `config.run`: metrics, evaluations, episodes, checkpoints, `report.html`, `summary.json`.
    Raises `ValueError` if another process trains in it, or if it holds a run that another config identifies.
    """
    from sojourn.viewer.report import write_report

    check_world(config, experiment)
    trackers.check(names := trackers.split(config.track))
    folder = RunFolder(Path(config.run))
    with folder, Progress(config.steps, title=folder.path.name) as progress:
        folder.write_config(asdict(config), MAY_CHANGE)
        progress.log(f"loading {config.model}")
        trainer = Trainer(config, experiment)
        if trainer.stored and trainer.stored.data:
            _tell(trainer.stored.data, folder, progress)
        run = Run(trainer, folder, progress)
        run.resume()
        _track(names, folder, trainer.step, progress)
        setup.check_contract(trainer)
        summary = asyncio.run(run.go())
        write_report(folder)
        for name in ("summary.json", "report.html"):
            folder.artifact(name)
    return summary


def _track(names: Sequence[str], folder: RunFolder, step: int, progress: Progress) -> None:
    """Open the trackers that are asked for, and TensorBoard where it is installed; a run that goes on does so in them, too."""
    file = folder.path / "trackers.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    wanted = dict.fromkeys([*names, *(["tensorboard"] if trackers.installed("tensorboard") else [])])
    start = trackers.Start(run=folder.path, config=folder.config(), step=step)
    opened = trackers.open_all([*wanted], start, known)
    folder.track(*(trackers.Tracked(name, tracker, progress.log) for name, (tracker, _) in opened.items()))
    if names:
        write_json(file, known | {name: called for name, (_, called) in opened.items()})


def _tell(data: Data, folder: RunFolder, progress: Progress) -> None:
    """What is used of a data set: in `data.json` whole, and, where rows cannot be used, in the log."""
    page = {"source": data.source, "kind": data.kind, "rows": data.rows, "used": data.rows - len(data.unusable)}
    write_json(folder.path / "data.json", {**page, "unusable": [str(each) for each in data.unusable]})
    if data.unusable:
        progress.log(data.told())
