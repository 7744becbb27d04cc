"""Kuhn poker from random weights, against itself, its former selves, or a fixed opponent; exploitability says how good it became.

Plain policy gradients against oneself run in circles, so the policy is held by an entropy bonus and by the divergence from a slow average
of itself, in the manner of magnetic mirror descent (Sokota et al., arXiv 2206.05825).  Both players learn against the mean of their own
seat (SPIRAL's role-conditioned baseline, arXiv 2506.24119).  `recipes/multi_agent/kuhn/RESULTS.md` has what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sojourn.agents import table
from sojourn.credit import dr_grpo
from sojourn.curriculum import Uniform
from sojourn.environments.several import from_openspiel
from sojourn.learner import OptimizerConfig
from sojourn.objectives import Kl, PolicyGradient, Reference
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, Former, Role, TrainConfig

WORLD = "Kuhn poker of OpenSpiel"


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """Kuhn poker's numbers."""

    run: str = "runs/kuhn"
    """Run folder.  An existing one is resumed."""
    model: str = "tiny"
    """A random model from nothing."""
    opponent: Literal["self", "league", "fixed"] = "league"
    """Who sits on the other seat: the policy itself, which then learns on both; former selves; or the policy before training."""
    present: float = 0.5
    """Share of a league's groups that meet the policy as it is now, in place of a former self."""
    every: int = 10
    """Steps between the snapshots of the league."""
    most: int = 5
    """Former selves kept."""
    entropy: float = 0.07
    """Entropy bonus: raising it circles less, and ends farther from equilibrium."""
    kl: float = 0.5
    """Coefficient of the divergence from the slow average."""
    rate: float = 0.04
    """Share of the policy that the slow average takes over in a step."""
    steps: int = 150
    """Rollouts."""
    groups: int = 12
    """Deals a step; each is played `group_size` times."""
    group_size: int = 16
    """Episodes a deal."""
    max_tokens: int = 2
    """Of one action, a letter."""
    max_context: int = 96
    """Of two turns, each a card and a few letters."""
    concurrency: int = 64
    """Episodes in flight."""
    eval_tasks: int = 0
    """None: exploitability says more than games."""
    keep_episodes_every: int = 0
    """None: thousands of tiny contexts."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=5e-4))
    """How weights move."""


def letters(state: Any, player: int, action: int) -> str:
    """p for pass, b for bet."""
    return "pb"[action]


def card(state: Any, player: int) -> str:
    """The card, 0 to 2, and what was said before."""
    return str(state.information_state_string(player))


def experiment(config: Config) -> Experiment:
    """The parts."""
    world = from_openspiel("kuhn_poker", show=card, say=letters)
    other = {
        "self": {},
        "league": {"other": Role(former=Former(every=config.every, most=config.most, present=config.present))},
        "fixed": {"other": Role(learns=False)},
    }[config.opponent]
    return Experiment(
        environment=world.make,
        tasks=world.tasks,
        protocol=PlainText(),
        curriculum=Uniform(world.tasks, seed=config.seed),
        program=table,
        credit=dr_grpo(),
        objective=PolicyGradient(entropy=config.entropy, kl=Kl(coefficient=config.kl, estimator="k2")),
        reference=Reference(kind="average", every=1, rate=config.rate),
        roles={"actor": Role(), **other},
        seats={"a": "actor", "b": "other" if other else "actor"},
    )
