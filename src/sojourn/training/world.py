"""The world of a run, looked at before a model is loaded: what would stop the run in minutes stops it now."""

from __future__ import annotations

import asyncio

from sojourn.core import handover
from sojourn.environments.check import check_fresh
from sojourn.training.config import Experiment, TrainConfig


def check_world(config: TrainConfig, experiment: Experiment) -> None:
    """Raise `ValueError` if episodes would share an environment, or if there are no held-out tasks to evaluate on."""
    asyncio.run(check_fresh(experiment.environment))
    source = experiment.tasks
    for level in source.levels if config.eval_tasks else ():
        try:
            handover.task(source.task("test", level, 0), source)
        except ValueError as error:
            raise ValueError(
                f"eval_tasks is {config.eval_tasks}, but {error}  Without held-out tasks set eval_tasks=0: then nothing is evaluated"
            ) from error
