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
from sojourn.environments.several.exploitability import exploitability, tabular
from sojourn.evidence import Claim
from sojourn.evidence.picture import Runs
from sojourn.learner import OptimizerConfig
from sojourn.objectives import Kl, PolicyGradient, Reference
from sojourn.policy import Session
from sojourn.rendering.protocols import PlainText
from sojourn.store import RunFolder
from sojourn.training import Evaluation, Experiment, Former, Role, TrainConfig
from sojourn.viewer.svg import Point, Series, line_chart, mean_of, standalone

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
    present: float = 0.75
    """Share of a league's groups that meet the policy as it is now, in place of a former self."""
    every: int = 5
    """Steps between the snapshots of the league."""
    most: int = 5
    """Former selves kept."""
    entropy: float = 0.15
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
    eval_every: int = 10
    """Exploitability is computed so often."""
    checkpoint_every: int = 50
    """A run takes minutes."""
    keep_episodes_every: int = 0
    """None: thousands of tiny contexts."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-3, decay="linear", decay_steps=150, final_rate=0.1)
    )
    """How weights move; slower in the end, so that the last policy is no matter of luck."""


def letters(state: Any, player: int, action: int) -> str:
    """p for pass, b for bet."""
    return "pb"[action]


def card(state: Any, player: int) -> str:
    """The card, 0 to 2, and what was said before."""
    return str(state.information_state_string(player))


async def exact(session: Session) -> None:
    """No game: the chance of each action at each of the 12 information states is computed, and OpenSpiel finds the best responses."""
    world = session.environment
    found = exploitability(world.game, await tabular(world, session.policies["actor"]))
    session.episode.info["exploitability"] = found


def experiment(config: Config) -> Experiment:
    """The parts."""
    world = from_openspiel("kuhn_poker", show=card, say=letters)
    other = {
        "self": {},
        "league": {"other": Role(former=Former(every=config.every, most=config.most, present=config.present))},
        "fixed": {"other": Role(learns=False)},
    }[config.opponent]
    measured = {"exploitability": lambda tries: float(tries[0].info["exploitability"])}
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
        evaluations={"exact": Evaluation(count=1, program=exact, metrics=measured)},
    )


WORLD = "Kuhn poker"
ARMS = {"league": {}, "self": {"opponent": "self"}, "fixed": {"opponent": "fixed"}}
END = "after/exact/default/exploitability"


def ends(arm: str, says: str, **threshold: float) -> Claim:
    """A claim on the exploitability of the last policy, in the worst of the seeds."""
    return Claim(says=says, value=lambda look: look(arm, END), each=True, form=".3f", **threshold)


CLAIMS = {
    "league": ends("league", "with a league, exploitability ends below 0.1 in every seed (uniform play has 0.458)", at_most=0.1),
    "self": ends("self", "without a league, against itself alone"),
    "fixed": ends("fixed", "against the policy before training"),
}


def picture(runs: Runs) -> str:
    """Exploitability over steps."""
    lines = {arm: [curve(run) for run in seeds.values()] for arm, seeds in runs.items()}
    faint = [Series(name="", points=line, color=n, style="faint") for n, each in enumerate(lines.values()) for line in each]
    means = [Series(name=arm, points=mean_of(each), color=n) for n, (arm, each) in enumerate(lines.items())]
    return line_chart([*faint, *means], y=(0.0, 0.7), width=760, height=340, style=standalone())


def curve(run: RunFolder) -> list[Point]:
    return [(float(row["step"]), row["exploitability"]) for row in run.evals() if row["mode"] == "exact"]
