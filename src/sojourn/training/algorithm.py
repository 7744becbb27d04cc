"""A published algorithm by name, in place of a recipe's own credit and objective; and what its credit wants to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sojourn.core import EpisodeGroup
from sojourn.credit import (
    BiLevelGae,
    Columns,
    Credit,
    EntropyBonus,
    Gae,
    GivenBaseline,
    OptimalTokenBaseline,
    VTrace,
)
from sojourn.credit.columns import Floats
from sojourn.learner import Critic, Learner
from sojourn.objectives import Kl, TopEntropy
from sojourn.objectives.presets import check, preset
from sojourn.objectives.presets.preset import NEEDS_REFERENCE, walk
from sojourn.training.config import Experiment, TrainConfig


def applied(experiment: Experiment, config: TrainConfig) -> Experiment:
    """The experiment with `config.algorithm`, if one is named.  Raises `ValueError` for an algorithm that would imitate all that the
    policy itself says, or that groups of this size cannot feed."""
    if not config.algorithm:
        return experiment
    chosen = preset(config.algorithm)
    if chosen.credit is None and not hasattr(chosen.objective, "compares") and not config.episodes:
        raise ValueError(
            f"algorithm '{config.algorithm}' ({chosen.title}) imitates all that it is shown: give it --episodes, a run folder whose "
            "episodes are worth it, or choose 'rft'"
        )
    check(chosen, group_size=config.group_size)
    return replace(
        experiment,
        credit=chosen.credit or no_credit,
        objective=chosen.objective,
        filters=chosen.filters,
        critic=chosen.critic,
        reference=experiment.reference if chosen.reference.kind == "none" else chosen.reference,
    )


def no_credit(columns: Columns) -> Floats:
    """For objectives that read no advantage."""
    return np.zeros(len(columns.row_T))


def reads_greedy(credit: Credit) -> bool:
    """Whether the baseline is the return of a greedy episode."""
    return any(isinstance(part, GivenBaseline) for part in walk(credit))


def reads_continuations(credit: Credit) -> bool:
    """Whether values of states come from fresh rollouts."""
    return any(isinstance(part, Gae) and part.monte_carlo for part in walk(credit))


def filled(
    groups: Sequence[EpisodeGroup], columns: Columns, experiment: Experiment, learner: Learner, critic: Critic | None
) -> Columns:
    """`columns` with what credit and objective read of the whole batch beside rewards: values, entropies, and the reference's
    log-probabilities.  What was sampled was sampled by the learner's policy."""
    columns = replace(columns, policy_logp_T=columns.logp_T)
    if critic is not None:
        columns = critic.valued(groups, columns)
    parts = [*walk(experiment.credit), *walk(experiment.objective)]
    everything = np.ones(len(columns.row_T), bool)
    if any(isinstance(part, NEEDS_REFERENCE) and not isinstance(part, Kl) for part in parts):  # a Kl reads it as it goes
        columns = replace(columns, ref_logp_T=learner.reference_logp(groups, columns, everything))
    if any(isinstance(part, EntropyBonus | TopEntropy) for part in parts):
        columns = replace(columns, entropy_T=learner.scored(groups, columns, everything)[1])
    if any(isinstance(part, OptimalTokenBaseline) for part in parts):
        columns = replace(columns, square_T=learner.squares(groups, columns))
    return columns


def discounts(credit: Credit) -> tuple[float, float]:
    """Of each token and of each turn, as the credit has them, for the critic's targets."""
    for part in walk(credit):
        if isinstance(part, BiLevelGae):
            return part.gamma, part.gamma_turn
        if isinstance(part, Gae) and part.level == "turn":
            return 1.0, part.gamma
        if isinstance(part, Gae | VTrace):
            return part.gamma, part.gamma
    return 1.0, 1.0
