"""Which agent program plays the training episodes.

The one idea: an algorithm that compares siblings needs episodes that branch, and only to learn from; what is evaluated is the policy as the
recipe plays it.  An algorithm that keeps notes is played with them everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sojourn.agents import choose, markov, react
from sojourn.agents.branching import by_entropy, whole_tree
from sojourn.agents.contexts import read_in_pieces
from sojourn.agents.search import Search
from sojourn.core import Restorable
from sojourn.objectives.presets import preset
from sojourn.policy import Program
from sojourn.training.config import Experiment, TrainConfig

TREES: dict[str, Callable[[Program], Program]] = {"tree": whole_tree, "branches": by_entropy}
PIECE = 0.5
"""Characters of a piece for each token that a context holds: it leaves half of the context free where every character is a token."""


def played(experiment: Experiment, config: TrainConfig) -> Experiment:
    """The experiment with the program of its algorithm, if that is played with it everywhere, and the recipe has none of its own."""
    if _needs(config) == "notes" and experiment.program is react:
        return replace(experiment, program=read_in_pieces(int(PIECE * config.max_context)))
    return experiment


def sampled(experiment: Experiment, config: TrainConfig) -> Program:
    """The program that samples what is learned from: the recipe's, grown into a tree if the algorithm compares branches.  A program of the
    recipe's own is trusted to branch by itself.  Raises `ValueError` where that goes back in a world that cannot."""
    program, grow = experiment.program, TREES.get(_needs(config))
    if grow is not None and program in (react, choose, markov):
        program = grow(program)
    if isinstance(program, Search) and not config.learn_from and not isinstance(world := experiment.environment(), Restorable):
        raise ValueError(
            f"{type(world).__name__} cannot go back to an earlier state, which a tree of actions does: give it `snapshot` and `restore`, or "
            "choose an algorithm that compares whole episodes"
        )
    return program


def _needs(config: TrainConfig) -> str:
    return preset(config.algorithm).program if config.algorithm else ""


def refuse_to_play_on(program: Program, experiment: Experiment) -> None:
    """Raise `ValueError` if a program, or the world, cannot be played on from a state in the middle of an episode and then gone back to."""
    if not getattr(program, "resumable", False):
        raise ValueError(
            f"this credit plays on from every state, and {getattr(program, '__name__', program)} is not known to go on in the middle of an "
            "episode: if all that it knows is in its context and in the world, say so with @resumable"
        )
    if not isinstance(world := experiment.environment(), Restorable):
        raise ValueError(
            f"this credit plays on from every state and goes back, which {type(world).__name__} cannot: give it `snapshot` and "
            "`restore`, or choose an algorithm with a critic"
        )
