"""R-Zero in small: a challenger asks sums that its solver is unsure of, and the solver learns from its own majority's answers.

Two copies of one base take turns.  The challenger is paid for questions on which the solver's answers split, less for repeating itself.  Then
it asks many, each is answered several times, the commonest answer becomes the label, and what is neither too easy nor too hard is what the
solver learns from.  No question and no answer is given, so nobody knows how true the labels are but we, who report it.
After Huang et al., arXiv 2508.05004; numbers as in its code where this scale allows.  A sum is one word, so BLEU between two of them is 1 or 0,
and the clusters of its repetition penalty are the equal ones.  Base: `recipes/self_improvement/r_zero/base.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from rounds import Rounds
from sums import HELD_OUT, Sums, task, truth

from sojourn.credit import ZeroSignal, grpo
from sojourn.environments import TaskList
from sojourn.evidence import Claim, Look
from sojourn.learner import OptimizerConfig
from sojourn.objectives import Aggregation, Clip, Kl, PolicyGradient, Reference
from sojourn.rendering.protocols import PlainText
from sojourn.store import RunFolder, query
from sojourn.training import Experiment, Role, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The numbers."""

    run: str = "runs/r_zero"
    """Run folder.  An existing one is resumed."""
    model: str = "runs/r_zero_base"
    """What both begin with."""
    challenger: Literal["trained", "untrained"] = "trained"
    """Whether the challenger learns.  If not, its steps pass, and the solver has as many as ever."""
    labels: Literal["vote", "true"] = "vote"
    """What the solver is held to: what most of its own answers said, or the truth."""
    challenges: int = 5
    """Steps of a round in which the challenger learns."""
    solutions: int = 15
    """Steps of a round in which the solver does."""
    asked: int = 256
    """Questions of a round that are answered and voted on."""
    votes: int = 9
    """Answers to each."""
    low: float = 0.3
    """Share of the commonest answer, below which a question is dropped."""
    high: float = 0.8
    """And above which."""
    steps: int = 40
    """Of all rounds: two."""
    eval_every: int = 20
    """After each round."""
    groups: int = 16
    """Questions a step."""
    group_size: int = 10
    """Answers to each; the challenger is paid by their agreement."""
    max_tokens: int = 10
    """Of a question or an answer."""
    max_context: int = 64
    """Of both."""
    eval_tasks: int = 300
    """Held-out sums."""
    keep_episodes_every: int = 0
    """None."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-4))
    """How weights move."""


def experiment(config: Config) -> Experiment:
    """The parts."""
    tasks = TaskList([task(f"{a}+{b}") for a in range(1, 10) for b in range(1, 10)], [task(q, truth(q)) for q in HELD_OUT])
    length = config.challenges + config.solutions
    return Experiment(
        environment=Sums,
        tasks=tasks,
        protocol=PlainText(),
        curriculum=Rounds(config, tasks),
        credit=grpo(),
        objective=PolicyGradient(
            trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=0.01), aggregation=Aggregation(over="sequences")
        ),
        filters=(ZeroSignal(),),
        reference=Reference(kind="frozen"),
        roles={
            "solver": Role(when=lambda step: step % length >= config.challenges),
            "challenger": Role(when=lambda step: step % length < config.challenges, learns=config.challenger == "trained"),
        },
        seats={"agent": "solver", "challenger": "challenger"},
    )


WORLD = "sums that the challenger asks"
ARMS = {"r-zero": {}, "untrained": {"challenger": "untrained"}, "true": {"labels": "true"}}


def gain(arm: str, after: str = "after/sampled", before: str = "before/sampled") -> Callable[[Look], float]:
    return lambda look: look(arm, after) - look(arm, before)


CLAIMS = {
    "first": Claim(says="the solver rises in the first round", value=gain("r-zero", "round 1"), at_least=0.02),
    "second": Claim(says="and in the second", value=gain("r-zero", "after/sampled", "round 1"), at_least=0.02),
    "challenger": Claim(
        says="5 points more than with questions of an untrained challenger",
        value=lambda look: gain("r-zero")(look) - gain("untrained")(look),
        at_least=0.05,
    ),
    "true": Claim(
        says="what true labels of the same questions would have added",
        value=lambda look: gain("true")(look) - gain("r-zero")(look),
    ),
    "before": Claim(says="held-out sums solved before training", value=lambda look: look("r-zero", "before/sampled")),
    "labels 1": Claim(says="true among the voted labels, first round", value=lambda look: look("r-zero", "round 1, true labels")),
    "labels 2": Claim(
        says="true among the voted labels, second round", value=lambda look: look("r-zero", "round 2, true labels")
    ),
    "pool": Claim(
        says="questions in the pool of the second round, over those of an untrained challenger",
        value=lambda look: look("r-zero", "round 2, pool") - look("untrained", "round 2, pool"),
        form=".0f",
    ),
}


def figures(run: RunFolder) -> dict[str, float | dict[str, float]]:
    """Success after the first round, by task; and what the pool of each round was like."""
    rows = query(
        run.path, "select task, avg(success::int) as success from episodes where phase = 'eval-during-sampled' group by all"
    )
    found: dict[str, float | dict[str, float]] = {"round 1": {row["task"]: row["success"] for row in rows}}
    first, length = run.config()["challenges"], run.config()["challenges"] + run.config()["solutions"]
    for number, row in enumerate(run.metrics()[first::length], 1):
        found |= {f"round {number}, {name}": value for name, value in row["curriculum"].items()}
    return found
