"""Quickstart: SmolLM2-135M learns to use a calculator, from one example in the prompt and reward alone.

Level 1 needs one call, level 2 two dependent calls, level 3 three or four.  Direct training on level 2 starts at 0 % and has no
signal; the staircase curriculum climbs: it moves on as soon as a level is mastered.  Full fine-tuning, group-relative advantages
(DeepSeekMath, arXiv 2402.03300, eq. 3), clipped token-mean objective (DAPO, arXiv 2503.14476, eq. 8), no demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.curriculum import Staircase, Uniform
from sojourn.environments.math.tool_arithmetic import ToolArithmetic, calc
from sojourn.rendering.protocols import XmlTags
from sojourn.training import Experiment, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The quickstart's numbers."""

    run: str = "runs/quickstart"
    """Run folder.  An existing one is resumed."""
    steps: int = 24
    """Optimizer steps."""
    max_turns: int = 5
    """Level 3 needs up to five."""
    max_tokens: int = 32
    """Tokens of one action; a call takes about 17."""
    levels: tuple[str, ...] = ()
    """Train on these levels only, in equal shares, instead of climbing: the control."""


def experiment(config: Config) -> Experiment:
    """The parts."""
    tasks = ToolArithmetic.tasks()
    if config.levels:
        curriculum = Uniform(tasks, config.levels, seed=config.seed)
    else:
        curriculum = Staircase(tasks, seed=config.seed)
    return Experiment(
        environment=ToolArithmetic, tasks=tasks, protocol=XmlTags(tools=(calc.spec,)), curriculum=curriculum
    )
