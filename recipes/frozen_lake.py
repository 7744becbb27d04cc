"""FrozenLake from random weights: credit for turns against credit for episodes, in a world of 16 squares that pays only at the goal.

Every step is a fresh context (the square is the whole state).  The recipe's own algorithm is GiGPO (arXiv 2505.10978), which compares
actions taken on the same square; `--algorithm` puts another one in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sojourn.agents import markov
from sojourn.curriculum import Uniform
from sojourn.environments import from_gymnasium
from sojourn.learner import OptimizerConfig
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, TrainConfig

WORLD = "FrozenLake of Gymnasium"


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """FrozenLake's numbers."""

    run: str = "runs/frozen_lake"
    """Run folder.  An existing one is resumed."""
    model: str = "tiny"
    """A random model from nothing."""
    algorithm: str = "gigpo"
    """How credit is given."""
    steps: int = 60
    """Rollouts."""
    max_turns: int = 20
    """The shortest way takes 6."""
    max_tokens: int = 4
    """Of one action, a letter."""
    max_context: int = 64
    """Of one square's number and one action."""
    eval_tasks: int = 32
    """Held-out episodes, before and after training."""
    keep_episodes_every: int = 0
    """None: thousands of tiny contexts."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3))
    """For policy and critic."""


def experiment(config: Config) -> Experiment:
    """The parts; credit and objective come with the algorithm."""
    world = from_gymnasium("FrozenLake-v1", ("l", "d", "r", "u"), is_slippery=False, max_episode_steps=20)
    return Experiment(
        environment=world.make,
        tasks=world.tasks,
        protocol=PlainText(),
        curriculum=Uniform(world.tasks, seed=config.seed),
        program=markov,
    )
