r"""The loop that joins all rooms.  One step, which `trainer.py` makes and `run.py` writes down:

curriculum --tasks--> rollout --groups--> seats.views --rows of a role--> Learning: shaping, filters, columns,
    ^    (a proposer     |                (one for each role                credit, fill what they read, update
    |     is played       \--scores--> league  that learns)                                   |
    \------ outcomes: success, returns by role, mean |A| <-------------------------------------/
"""

from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.evaluations import Evaluation
from sojourn.training.league import Former
from sojourn.training.loop import train
from sojourn.training.roles import Role, turn_about
from sojourn.training.rollout import Rollout
from sojourn.training.trainer import Trainer

__all__ = ["Evaluation", "Experiment", "Former", "Role", "Rollout", "TrainConfig", "Trainer", "train", "turn_about"]
