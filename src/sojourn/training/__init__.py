"""The loop that joins all rooms."""

from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.loop import train
from sojourn.training.rollout import Rollout
from sojourn.training.trainer import Trainer

__all__ = ["Experiment", "Rollout", "TrainConfig", "Trainer", "train"]
