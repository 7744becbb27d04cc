"""A published algorithm by name, in place of a recipe's own credit and objective; and what its credit wants to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns, Credit, Distillation, Gae, KlInReward
from sojourn.learner import Critic, Learner
from sojourn.objectives.presets import check, preset
from sojourn.objectives.presets.preset import walk
from sojourn.training.config import Experiment, TrainConfig


def applied(experiment: Experiment, config: TrainConfig) -> Experiment:
    """The experiment with `config.algorithm`, if one is named.  Raises `ValueError` for an algorithm that does not learn from fresh
    episodes, or that groups of this size cannot feed."""
    if not config.algorithm:
        return experiment
    chosen = preset(config.algorithm)
    if chosen.credit is None:
        raise ValueError(
            f"algorithm '{config.algorithm}' ({chosen.title}) learns from stored episodes, not from rollouts: choose another"
        )
    check(chosen, group_size=config.group_size)
    return replace(
        experiment,
        credit=chosen.credit,
        objective=chosen.objective,
        filters=chosen.filters,
        critic=chosen.critic,
        reference=experiment.reference if chosen.reference.kind == "none" else chosen.reference,
    )


def filled(groups: Sequence[EpisodeGroup], columns: Columns, credit: Credit, learner: Learner, critic: Critic | None) -> Columns:
    """`columns` with what the credit reads beside rewards: values, and the reference's log-probabilities.  What was sampled was
    sampled by the learner's policy."""
    columns = replace(columns, policy_logp_T=columns.logp_T)
    if critic is not None:
        columns = critic.valued(groups, columns)
    if any(isinstance(part, KlInReward | Distillation) for part in walk(credit)):
        everything = np.ones(len(columns.row_T), bool)
        columns = replace(columns, ref_logp_T=learner.reference_logp(groups, columns, everything))
    return columns


def discount(credit: Credit) -> float:
    """Of each token, for the critic's targets."""
    return next((part.gamma for part in walk(credit) if isinstance(part, Gae)), 1.0)
