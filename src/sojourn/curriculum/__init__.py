"""Which tasks to train on next."""

from sojourn.curriculum.curriculum import Curriculum, Outcome, Uniform
from sojourn.curriculum.difficulty import next_difficulty
from sojourn.curriculum.rounds import Rounds, hinted, lively, unsolved
from sojourn.curriculum.staircase import Staircase

__all__ = ["Curriculum", "Outcome", "Rounds", "Staircase", "Uniform", "hinted", "lively", "next_difficulty", "unsolved"]
