"""CartPole by PPO with a critic: a language model of 100 thousand parameters, from random weights, reads four letters and says a word.

Every step is a fresh context (the observation is the whole state), credit is generalised advantage estimation over turns
(arXiv 1506.02438), the ratio is clipped at 0.2 over four epochs of four minibatches (arXiv 1707.06347).  An episode that the step
limit cuts bootstraps from the critic's value of the state that it left.  Discounted returns reach 86, so the critic is told their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sojourn.agents import markov
from sojourn.credit import Gae, Then, Whiten
from sojourn.curriculum import Uniform
from sojourn.environments import from_gymnasium
from sojourn.learner import OptimizerConfig
from sojourn.objectives import Clip, PolicyGradient, ValueLoss
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, TrainConfig

REACH = np.asarray([2.4, 2.5, 0.21, 2.5])
"""Position, velocity, angle, angular velocity: what the letters span, either way."""
LETTERS = "abcdefghijklmnop"


def letters(state: Sequence[float]) -> str:
    """A letter for each of the four numbers, finer around 0.

    >>> letters([0.0, 0.0, -0.05, 9.0])
    'iiep'
    """
    half = len(LETTERS) // 2
    squeezed = np.tanh(2 * np.asarray(state) / REACH) / np.tanh(2)
    place = np.clip(np.floor(squeezed * half), -half, half - 1) + half
    return "".join(LETTERS[int(each)] for each in place)


WORLD = "CartPole of Gymnasium"


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """CartPole's numbers."""

    run: str = "runs/cartpole"
    """Run folder.  An existing one is resumed."""
    model: str = "tiny"
    """A random model from nothing."""
    steps: int = 30
    """Rollouts."""
    groups: int = 16
    """Episodes a rollout, as each is a group of its own."""
    group_size: int = 1
    """The critic is the baseline: no group is needed."""
    epochs: int = 4
    """Times that each rollout is learned from."""
    minibatches: int = 4
    """Optimizer steps an epoch."""
    max_turns: int = 200
    """As long as an episode of CartPole-v0 lasts, which counts as solved at 195."""
    max_tokens: int = 8
    """Of one action, `l` or `r`."""
    max_context: int = 64
    """Of one observation and one action."""
    eval_tasks: int = 16
    """Held-out episodes, before and after training."""
    keep_episodes_every: int = 0
    """None: thousands of tiny contexts."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3))
    """For policy and critic."""


def experiment(config: Config) -> Experiment:
    """The parts: `turn_ppo`, with a critic that knows how large returns are."""
    world = from_gymnasium("CartPole-v0", ("l", "r"), show=letters)
    return Experiment(
        environment=world.make,
        tasks=world.tasks,
        protocol=PlainText(),
        curriculum=Uniform(world.tasks, seed=config.seed),
        program=markov,
        credit=Then(credit=Gae(granularity="turn", gamma=0.99, lam=0.95), transforms=(Whiten(),)),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2)),
        critic=ValueLoss(scale=50.0),
    )
