"""MAGRPO in small: one agent writes a helper function, another the function that calls it, and tests of both together pay both.

Each reads the task, `x%4 + 3*x`, and never what the other writes.  Either may take either term, so which is whose is a matter of agreement,
and only the joint reward says whether they agree.  Both are adapters on one base, sampled in one batch; the k-th answers of a group are one
joint action ("aligned").  After Liu et al., arXiv 2508.04652, whose reward for code this is; one turn in place of their two.

The base has learned to write such halves, each term as often as the other: `recipes/multi_agent/two_halves/base.py` makes it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from halves import HELD_OUT, Halves, sums

from sojourn.agents import table
from sojourn.curriculum import Uniform
from sojourn.evidence import Claim
from sojourn.learner import OptimizerConfig
from sojourn.policy import Session
from sojourn.rendering.protocols import PlainText
from sojourn.store import RunFolder, query
from sojourn.training import Evaluation, Experiment, Role, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The numbers."""

    run: str = "runs/two_halves"
    """Run folder.  An existing one is resumed."""
    model: str = "runs/two_halves_base"
    """What both adapters stand on."""
    algorithm: str = "magrpo"
    """How credit is given."""
    pay: Literal["joint", "own"] = "joint"
    """What an agent is paid: the joint reward, or what can be said of its own half alone."""
    partner: Literal["trained", "untrained"] = "trained"
    """Whether the helper's author learns, too."""
    lora_rank: int = 16
    """Of each agent's adapter."""
    steps: int = 40
    """Rollouts."""
    groups: int = 8
    """Tasks a step."""
    group_size: int = 16
    """Joint actions a task."""
    max_tokens: int = 40
    """Of one function."""
    max_context: int = 160
    """Of one agent: the task, and its function."""
    eval_tasks: int = HELD_OUT
    """Held-out sums."""
    keep_episodes_every: int = 0
    """None."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    """How adapters move."""


async def beside_a_stranger(session: Session) -> None:
    """The helper is written by the base as it was before training."""
    session.seats = {**session.seats, "helper": "untrained"}
    await table(session)


def experiment(config: Config) -> Experiment:
    """The parts; credit and objective come with the algorithm."""
    tasks = sums()
    return Experiment(
        environment=lambda: Halves(config.pay),
        tasks=tasks,
        protocol=PlainText(),
        curriculum=Uniform(tasks, seed=config.seed),
        program=table,
        roles={
            "main": Role(),
            "helper": Role(base="main", learns=config.partner == "trained"),
            "untrained": Role(base="main", learns=False),
        },
        seats={"main": "main", "helper": "helper"},
        evaluations={"stranger": Evaluation(count=config.eval_tasks, program=beside_a_stranger)},
    )


WORLD = "halves of a program, with tests"
ARMS = {"joint": {}, "own": {"pay": "own"}, "untrained": {"partner": "untrained"}}
CLAIMS = {
    "joint": Claim(
        says="both reach 90 % of the joint maximum on held-out sums, in every seed",
        value=lambda look: look("joint", "share/after-sampled"),
        at_least=0.9,
        each=True,
    ),
    "before": Claim(says="share of the joint maximum before training", value=lambda look: look("joint", "share/before-sampled")),
    "own": Claim(
        says="10 points of it more than when each is paid for its own half",
        value=lambda look: look("joint", "share/after-sampled") - look("own", "share/after-sampled"),
        at_least=0.1,
    ),
    "untrained": Claim(
        says="10 points of it more than when the partner is not trained",
        value=lambda look: look("joint", "share/after-sampled") - look("untrained", "share/after-sampled"),
        at_least=0.1,
    ),
    "stranger": Claim(
        says="they have adapted to each other: 10 points less beside an untrained helper",
        value=lambda look: look("joint", "share/after-sampled") - look("joint", "share/after-stranger"),
        at_least=0.1,
    ),
    "tests": Claim(
        says="joint actions that earn the maximum: all tests, both halves used",
        value=lambda look: look("joint", "after/sampled"),
    ),
}


def figures(run: RunFolder) -> dict[str, dict[str, float]]:
    """Share of the joint maximum, by task, of each evaluation; whatever the agents were paid."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in query(run.path, "select phase, task, info from episodes where valid and phase like 'eval-%'"):
        found[f"share/{row['phase'].removeprefix('eval-')}"][row["task"]] = json.loads(row["info"])["share"]
    return found
