"""Quickstart: SmolLM2-135M learns to use a calculator, from one example in the prompt and reward alone.

Level 1 needs one call, level 2 two dependent calls, level 3 three or four.  The staircase curriculum moves on as soon as a level is
mastered.  Credit is per action: the return that follows it, against the returns of the group's other actions in the same state
(the step part of GiGPO, arXiv 2505.10978, eq. 7), so that a wrong answer after a right call is not praised for the call.
Clipped token-mean objective (DAPO, arXiv 2503.14476, eq. 8), full fine-tuning, no demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from sojourn.core import Range
from sojourn.credit.steps import StepRelative
from sojourn.curriculum import Staircase, Uniform
from sojourn.environments.math.tool_arithmetic import ToolArithmetic, calc
from sojourn.evidence import Claim
from sojourn.evidence.picture import Runs
from sojourn.objectives import Reference
from sojourn.rendering.protocols import XmlTags
from sojourn.training import Experiment, TrainConfig
from sojourn.viewer.svg import curve_svg


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The quickstart's numbers."""

    run: str = "runs/quickstart"
    """Run folder.  An existing one is resumed."""
    steps: int = 10
    """Optimizer steps."""
    max_minutes: float = 10.0
    """Train no longer than this, so that a slow laptop is done in a quarter of an hour."""
    max_turns: int = 5
    """Level 3 needs up to five."""
    max_tokens: int = 36
    """Tokens of one action; a call takes 15 to 35."""
    progress: Annotated[float, Range(0)] = 0.5
    """What right intermediate values pay, beside 1 for the answer; 0 pays the answer only."""
    levels: tuple[str, ...] = ()
    """Train on these levels only, in equal shares, instead of climbing: the control."""


def experiment(config: Config) -> Experiment:
    """The parts."""
    tasks = ToolArithmetic.tasks()
    if config.levels:
        curriculum = Uniform(tasks, config.levels, seed=config.seed)
    else:
        # With less of either, level 1 is called on and on once level 3 has begun.
        curriculum = Staircase(tasks, seed=config.seed, goal=0.85, rehearsal=0.3)
    return Experiment(
        environment=partial(ToolArithmetic, progress=config.progress),
        tasks=tasks,
        protocol=XmlTags(tools=(calc.spec,)),
        curriculum=curriculum,
        credit=StepRelative(bucket="state"),
        reference=Reference(kind="frozen"),
    )


WORLD = "arithmetic with a calculator"
ARMS = {
    "climb": {"eval_tasks": 200, "max_minutes": 0.0},
    # No gradient ever comes, so more steps would be the same.
    "control": {"levels": ("2",), "progress": 0.0, "steps": 4, "max_minutes": 0.0, "eval_tasks": 200, "eval_before": False},
}
CLAIMS = {
    "level 1": Claim(says="level 1 is learned", value=lambda look: look("climb", "after/sampled/1"), at_least=0.95),
    "level 2": Claim(says="level 2 is learned", value=lambda look: look("climb", "after/sampled/2"), at_least=0.8),
    "level 3": Claim(says="level 3, as it comes", value=lambda look: look("climb", "after/sampled/3")),
    "level 1 before": Claim(says="level 1 before training", value=lambda look: look("climb", "before/sampled/1")),
    "level 2 before": Claim(says="level 2 before training", value=lambda look: look("climb", "before/sampled/2")),
    "control": Claim(
        says="level 2 directly, paid for the answer alone, is not learned",
        value=lambda look: look("control", "after/sampled/2"),
        at_most=0.02,
    ),
}


def picture(runs: Runs) -> str:
    """Each level's training episodes, as the quickstart climbs."""
    return curve_svg({seed: run.metrics() for seed, run in runs["climb"].items()})
