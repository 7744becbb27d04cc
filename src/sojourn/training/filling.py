"""Who fills a column that credit or objective reads beside rewards (`sojourn.credit.needs`).

Three of them need an episode that is played, before anything is learned: `baseline_E` is the return of a greedy episode, `value_S` comes
from continuations while an episode runs, `answer_S` asks the task for its right answer.  All others are passes of the learner, the critic
or the reference over the whole batch, in the order of FILLERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns, reads
from sojourn.credit.needs import traits
from sojourn.learner import Critic, Learner
from sojourn.training.config import Experiment


@dataclass(frozen=True, kw_only=True)
class Source:
    """Who can be asked about a batch."""

    groups: Sequence[EpisodeGroup]
    learner: Learner
    critic: Critic | None
    read_T: NDArray[np.bool_]
    """Tokens that are asked about: trained, in episodes that statistics count."""


def _start(source: Source, columns: Columns) -> Columns:
    assert columns.logp_T is not None, "the engine reports log-probabilities"
    own_T = source.learner.scored(source.groups, columns, source.read_T)[0]
    return replace(columns, policy_logp_T=np.where(source.read_T, own_T, columns.logp_T))


def _values(source: Source, columns: Columns) -> Columns:
    return columns if source.critic is None else source.critic.valued(source.groups, columns)


def _rollout_values(source: Source, columns: Columns) -> Columns:
    # continuations have the turns and tokens that were left: what was cut is worth no more
    return replace(columns, after_S=np.zeros(len(columns.span_S)))


def _reference(source: Source, columns: Columns) -> Columns:
    assert columns.policy_logp_T is not None, "it comes first"
    reference_T = source.learner.reference_logp(source.groups, columns, source.read_T)
    return replace(columns, ref_logp_T=np.where(source.read_T, reference_T, columns.policy_logp_T))


def _entropies(source: Source, columns: Columns) -> Columns:
    return replace(columns, entropy_T=source.learner.scored(source.groups, columns, source.read_T)[1])


def _squares(source: Source, columns: Columns) -> Columns:
    return replace(columns, square_T=source.learner.squares(source.groups, columns, source.read_T))


FILLERS: dict[str, Callable[[Source, Columns], Columns]] = {
    "policy_logp_T": _start,
    "value_T": _values,
    "value_S": _rollout_values,
    "ref_logp_T": _reference,
    "entropy_T": _entropies,
    "square_T": _squares,
}
"""By column, in this order: the reference's tokens that nobody asks about are those of the policy."""
ELSEWHERE = ("baseline_E", "answer_S", "ref_logp", "old_logp", "blind_logp")
"""Filled before, by the trainer, and while the loss is computed, by the learner."""


def nobody_fills(experiment: Experiment) -> frozenset[str]:
    """What is read and filled by nobody."""
    return reads(experiment.credit, experiment.objective) - FILLERS.keys() - {*ELSEWHERE}


def needed(experiment: Experiment, *, stale: bool, updates: int) -> frozenset[str]:
    """The columns that a step must fill.

    The policy at the start of the update is scored where something reads it beside the one that sampled and they differ: other weights
    may have sampled (`stale`), the weights will have left it behind (several `updates`), or the engine's error is what is read.
    """
    names = reads(experiment.credit, experiment.objective) - {"policy_logp_T"}
    left_behind = stale or updates > 1 or "rounding" in traits(experiment.objective)
    if ("old_logp" in reads(experiment.objective) and left_behind) or ("policy_logp_T" in reads(experiment.credit) and stale):
        names |= {"policy_logp_T"}
    return names


def filled(source: Source, columns: Columns, names: frozenset[str]) -> Columns:
    """`columns` with these filled; where the policy at the start is not among them, it is the one that sampled."""
    columns = replace(columns, policy_logp_T=columns.logp_T)
    for name, fill in FILLERS.items():
        if name in names:
            columns = fill(source, columns)
    return columns
