"""The loop that joins all rooms."""

from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.evaluations import Evaluation
from sojourn.training.league import Former
from sojourn.training.loop import train
from sojourn.training.roles import Role, turn_about
from sojourn.training.rollout import Rollout
from sojourn.training.trainer import Trainer

__all__ = ["Evaluation", "Experiment", "Former", "Role", "Rollout", "TrainConfig", "Trainer", "train", "turn_about"]
