"""Which tasks to train on next."""

from sojourn.curriculum.adaptive import Adaptive
from sojourn.curriculum.curriculum import Curriculum, Outcome, Play, Uniform, dealt
from sojourn.curriculum.difficulty import next_difficulty
from sojourn.curriculum.joined import Mixture, Staged
from sojourn.curriculum.proposing import Proposing, hard_not_hopeless, learnable
from sojourn.curriculum.rounds import Rounds, hinted, lively, unsolved
from sojourn.curriculum.scored import Scored, band, boltzmann, learnability, progress
from sojourn.curriculum.staircase import Staircase

__all__ = [
    "Adaptive", "Curriculum", "Mixture", "Outcome", "Play", "Proposing", "Rounds", "Scored", "Staged", "Staircase", "Uniform", "band",
    "boltzmann", "dealt", "hard_not_hopeless", "hinted", "learnability", "learnable", "lively", "next_difficulty", "progress", "unsolved",
]  # fmt: skip
