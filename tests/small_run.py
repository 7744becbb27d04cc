"""A whole training run with a tiny model, small enough for a test; as a script, one that kills itself in the middle of a step.

python tests/small_run.py RUN_FOLDER MODEL_FOLDER KILL_AT_CALL
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sojourn.curriculum import Uniform
from sojourn.environments import World, from_function
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, TrainConfig, train


def few_high_bytes(prompt: str, completion: str) -> float:
    """Pays for plain characters: something that a random model earns sometimes more, sometimes less."""
    return sum(char.isascii() for char in completion) / 8


def config(run: Path, model: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "run": str(run), "model": str(model), "dtype": "float32", "steps": 5, "groups": 2, "group_size": 4, "max_tokens": 8,
        "max_context": 200, "eval_tasks": 2, "eval_every": 2, "checkpoint_every": 2,
    }  # fmt: skip
    return TrainConfig(**(settings | changes))


def experiment(reward: Any = few_high_bytes, *, prompts: Sequence[str] = ("Say a.", "Say b.", "Say something.")) -> Experiment:
    world: World = from_function(reward, list(prompts), test=["Say x.", "Say y."])
    return Experiment(environment=world.make, tasks=world.tasks, protocol=PlainText(), curriculum=Uniform(world.tasks))


class DiesAtCall:
    """The reward, until its n-th call."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, prompt: str, completion: str) -> float:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return few_high_bytes(prompt, completion)


if __name__ == "__main__":
    train(config(Path(sys.argv[1]), Path(sys.argv[2])), experiment(DiesAtCall(int(sys.argv[3]))))
