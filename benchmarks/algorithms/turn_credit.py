"""FrozenLake with the objective held fixed: only the credit differs (`--credit`), so a difference of curves is one of credit.

The objective is PPO's clip with the mean over tokens and no pull to the first weights.  With `--progress 0.1` each turn is paid for
the squares that it came nearer to the goal, so that methods which read rewards of turns have some to read.  The goal is worth 1.6 in
all and stays the best end by far; the holes are worth 0.2 to 0.5, by how near to it they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from sojourn.cli.recipe import load
from sojourn.credit import MTGRPO, Credit, Gae, GiGPO, Then, Whiten, grpo
from sojourn.curriculum import Uniform
from sojourn.environments import from_gymnasium
from sojourn.objectives import Clip, PolicyGradient, ValueLoss
from sojourn.training import Experiment

CREDITS: dict[str, Credit] = {
    "trajectory": grpo(),
    "mt_grpo": MTGRPO(),
    "gigpo": GiGPO(),
    "turn_gae": Then(credit=Gae(granularity="turn", gamma=0.99, lam=0.95), transforms=(Whiten(),)),
}


LAKE = load("frozen_lake")


@dataclass(frozen=True, kw_only=True)
class Config(LAKE.config):  # type: ignore[name-defined, misc]
    """Those of recipes/frozen_lake.py, and the credit."""

    run: str = "runs/turn_credit"
    """Run folder.  An existing one is resumed."""
    algorithm: str = ""
    """The credit is `credit`."""
    credit: Literal["trajectory", "mt_grpo", "gigpo", "turn_gae"] = "trajectory"
    """How rewards become advantages."""
    progress: float = 0.0
    """Paid for each square nearer to the goal."""


class Nearer(gymnasium.Wrapper[Any, Any, Any, Any]):
    """FrozenLake that also pays `progress` for each square nearer to the goal in the far corner."""

    def __init__(self, progress: float = 0.0) -> None:
        super().__init__(FrozenLakeEnv(is_slippery=False))
        self._progress, self._left = progress, 0

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        state, info = super().reset(**settings)
        self._left = distance(state)
        return state, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        state, reward, terminated, truncated, info = super().step(action)
        before, self._left = self._left, distance(state)
        return state, float(reward) + self._progress * (before - self._left), terminated, truncated, info


def distance(state: int) -> int:
    """Steps from a square, numbered by rows of four, to the last one, holes or not.

    >>> distance(0), distance(15)
    (6, 0)
    """
    row, column = divmod(state, 4)
    return 6 - row - column


gymnasium.register("Nearer-v0", entry_point=Nearer, max_episode_steps=20, reward_threshold=0.7)  # without the goal: 0.5 at most


def experiment(config: Config) -> Experiment:
    """The parts; all but the credit, and the critic that it reads, are the same."""
    world = from_gymnasium("Nearer-v0", ("l", "d", "r", "u"), progress=config.progress)
    return replace(
        LAKE.experiment(config),
        environment=world.make,
        tasks=world.tasks,
        curriculum=Uniform(world.tasks, seed=config.seed),
        credit=CREDITS[config.credit],
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2)),
        critic=ValueLoss() if config.credit == "turn_gae" else None,
    )
