"""Which tasks to train on next."""

from sojourn.curriculum.curriculum import Curriculum, Outcome, Uniform
from sojourn.curriculum.difficulty import next_difficulty
from sojourn.curriculum.staircase import Staircase

__all__ = ["Curriculum", "Outcome", "Staircase", "Uniform", "next_difficulty"]
