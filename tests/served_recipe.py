"""A recipe for `sojourn serve` that dies, if it is asked to, in the middle of a training step."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import small_run

from sojourn.credit import Credit, grpo
from sojourn.training import Experiment, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    dies_at: int = 0
    """The step in whose update it kills itself."""


class Deadly:
    """The credit, until it is called for the n-th time."""

    def __init__(self, credit: Credit, last: int) -> None:
        self.credit, self.left = credit, last

    def __call__(self, columns: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.credit(columns)


def experiment(config: Config) -> Experiment:
    from dataclasses import replace

    dies = os.environ.get("DIES_AT")
    parts = small_run.experiment()
    return replace(parts, credit=Deadly(grpo(), int(dies))) if dies else parts
