"""The loop that joins all rooms."""

from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.loop import Trainer, train
from sojourn.training.rollout import Rollout

__all__ = ["Experiment", "Rollout", "TrainConfig", "Trainer", "train"]
