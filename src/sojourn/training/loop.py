"""A whole run: load the model, resume what is there, train, evaluate, write the report."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    folder = RunFolder(Path(config.run))
    with folder, Progress(config.steps, title=folder.path.name) as progress:
        folder.write_config(asdict(config), MAY_CHANGE)
        progress.log(f"loading {config.model}")
        trainer = Trainer(config, experiment)
        if trainer.stored and trainer.stored.data:
            _tell(trainer.stored.data, folder, progress)
        run = Run(trainer, folder, progress)
        run.resume()
        setup.check_contract(trainer)
        summary = asyncio.run(run.go())
        write_report(folder)
    return summary


def _tell(data: Data, folder: RunFolder, progress: Progress) -> None:
    """What is used of a data set: in `data.json` whole, and, where rows cannot be used, in the log."""
    page = {"source": data.source, "kind": data.kind, "rows": data.rows, "used": data.rows - len(data.unusable)}
    write_json(folder.path / "data.json", {**page, "unusable": [str(each) for each in data.unusable]})
    if data.unusable:
        progress.log(data.told())
