"""A published algorithm by name, in place of a recipe's own credit and objective; and what its credit wants to read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sojourn.core import EpisodeGroup
from sojourn.credit import (
    BiLevelGae,
    Columns,
    Credit,
    Distillation,
    EntropyBonus,
    Gae,
    GivenBaseline,
    InformationGain,
    KlInReward,
    OptimalTokenBaseline,
    VTrace,
    value_targets,
)
from sojourn.credit.columns import Floats
from sojourn.learner import Critic, Learner
from sojourn.objectives import Kl, PolicyGradient, SecondMoment, TopEntropy
from sojourn.objectives.presets import check, preset
from sojourn.objectives.presets.refusals import NEEDS_REFERENCE, walk
from sojourn.training.config import Experiment, TrainConfig


def applied(experiment: Experiment, config: TrainConfig) -> Experiment:
    """The experiment with `config.algorithm`, if one is named.  Raises `ValueError` for an algorithm that would imitate all that the
    policy itself says."""
    if not config.algorithm:
        return experiment
    chosen = preset(config.algorithm)
    if chosen.credit is None and not hasattr(chosen.objective, "compares") and not config.episodes:
        raise ValueError(
            f"algorithm '{config.algorithm}' ({chosen.title}) imitates all that it is shown: give it --episodes, a run folder whose "
            "episodes are worth it, or choose 'rft'"
        )
    return replace(
        experiment,
        credit=chosen.credit or no_credit,
        objective=chosen.objective,
        filters=chosen.filters,
        critic=chosen.critic,
        kl_target=chosen.kl_target,
        entropy_target=chosen.entropy_target,
        reference=experiment.reference if chosen.reference.kind == "none" else chosen.reference,
    )


def refuse(experiment: Experiment, config: TrainConfig, *, group_size: int) -> None:
    """Raise `ValueError`, with the reason and the fix, for parts that contradict each other, the config, or groups of this size."""
    title = _title(config)
    check(experiment, title, group_size=group_size)
    kind = experiment.reference.kind
    if config.teacher and kind != "frozen":
        reason = "nothing reads a reference" if kind == "none" else f"reference.kind is '{kind}', which follows the policy"
        raise ValueError(
            f"{title}: the teacher is '{config.teacher}', but {reason}; drop the teacher, or set reference.kind 'frozen'"
        )
    if config.replay:
        _refuse_replay(experiment, config, title)
    if not config.teacher and any(isinstance(part, Distillation) for part in walk(experiment.credit)):
        raise ValueError(
            f"{title}: distillation needs a teacher, for the first policy has nothing to teach itself; name a model or a run folder "
            "with --teacher"
        )


def _refuse_replay(experiment: Experiment, config: TrainConfig, title: str) -> None:
    if experiment.credit is no_credit:
        raise ValueError(f"{title} reads no advantage, by which groups worth remembering are told: replay=0")
    if config.episodes or reads_continuations(experiment.credit):
        what = "learns from stored episodes only" if config.episodes else "reads values that are not stored"
        raise ValueError(f"{title} {what}: replay=0")
    for part in walk(experiment.objective):
        if not isinstance(part, PolicyGradient):
            continue
        by_ratio = part.granularity != "none" and (part.centre == "behaviour" or not part.reads_old)
        weighs = by_ratio or any(correction.weighs for correction in part.corrections)
        if not weighs and not any(isinstance(c, VTrace) for c in walk(experiment.credit)):
            raise ValueError(
                f"{title}: replayed groups were sampled by older weights, and neither a ratio nor a correction accounts for that; choose a "
                "granularity other than 'none', add corrections=(Importance(),), or set replay=0"
            )


def warn(experiment: Experiment, config: TrainConfig) -> None:
    """Say what works otherwise than its formula promises: several updates of a rollout, and no ratio that would notice."""
    updates = config.epochs * config.minibatches
    if updates > 1 and any(
        isinstance(part, PolicyGradient) and part.granularity == "none" for part in walk(experiment.objective)
    ):
        warnings.warn(
            f"{_title(config)}: {updates} updates of each rollout (epochs {config.epochs}, minibatches {config.minibatches}) and granularity "
            "'none': after the first, the samples are of older weights, and nothing corrects or bounds that (a correction weighs what "
            "sampled against the start of the update, not its steps); make one update, or choose a granularity that has a ratio to bound",
            RuntimeWarning,
            stacklevel=3,
        )


def _title(config: TrainConfig) -> str:
    return f"algorithm '{config.algorithm}'" if config.algorithm else "this experiment"


def no_credit(columns: Columns) -> Floats:
    """For objectives that read no advantage."""
    return np.zeros(len(columns.row_T))


def reads_greedy(credit: Credit) -> bool:
    """Whether the baseline is the return of a greedy episode."""
    return any(isinstance(part, GivenBaseline) for part in walk(credit))


def reads_continuations(credit: Credit) -> bool:
    """Whether values of states come from fresh rollouts."""
    return any(isinstance(part, Gae) and part.monte_carlo for part in walk(credit))


def reads_answers(credit: Credit) -> bool:
    """Whether actions are paid for what they tell about the right answer."""
    return any(isinstance(part, InformationGain) for part in walk(credit))


def reads_start(experiment: Experiment, *, stale: bool, updates: int) -> bool:
    """Whether the policy at the start of the update must be scored: something reads it beside the one that sampled, and they differ
    (`stale`), the weights will have left it behind (several `updates`), or it is read before the update begins (`SecondMoment`)."""
    before = any(isinstance(part, SecondMoment) for part in walk(experiment.objective))
    corrected = getattr(experiment.objective, "reads_old", False) and (stale or updates > 1 or before)
    compared = any(isinstance(part, Distillation | KlInReward | VTrace) for part in walk(experiment.credit))
    return corrected or (compared and stale)


def filled(
    groups: Sequence[EpisodeGroup],
    columns: Columns,
    experiment: Experiment,
    learner: Learner,
    critic: Critic | None,
    *,
    stale: bool,
    updates: int,
) -> Columns:
    """`columns` with what credit and objective read of the whole batch beside rewards: values, entropies, the reference's
    log-probabilities, and those of the policy at the start of the update.

    stale: other weights than the learner's may have sampled.  updates: optimizer steps that will be made.
    """
    assert columns.logp_T is not None, "the engine reports log-probabilities"
    read_T = (columns.trained_S & columns.valid_E[columns.episode_S])[columns.row_T]
    policy_logp_T = columns.logp_T
    if reads_start(experiment, stale=stale, updates=updates):
        policy_logp_T = np.where(read_T, learner.scored(groups, columns, read_T)[0], columns.logp_T)
    columns = replace(columns, policy_logp_T=policy_logp_T)
    if critic is not None:
        columns = critic.valued(groups, columns)
    if reads_continuations(experiment.credit):  # they have the turns and tokens that were left: what was cut is worth no more
        columns = replace(columns, after_S=np.zeros(len(columns.span_S)))
    parts = [*walk(experiment.credit), *walk(experiment.objective)]
    if any(isinstance(part, NEEDS_REFERENCE) and not isinstance(part, Kl) for part in parts):  # a Kl reads it as it goes
        reference_T = learner.reference_logp(groups, columns, read_T)
        columns = replace(columns, ref_logp_T=np.where(read_T, reference_T, policy_logp_T))
    if any(isinstance(part, EntropyBonus | TopEntropy) for part in parts):
        columns = replace(columns, entropy_T=learner.scored(groups, columns, read_T)[1])
    if any(isinstance(part, OptimalTokenBaseline) for part in parts):
        columns = replace(columns, square_T=learner.squares(groups, columns, read_T))
    return columns


def targets(credit: Credit, columns: Columns) -> Floats:
    """What the critic should predict, shape (T,): returns with the rewards, penalties and discounts of the credit, or V-trace's own."""
    for part in walk(credit):  # from the outermost inwards, as the credit reads
        if isinstance(part, KlInReward | InformationGain):
            columns = part.paid(columns)
        if isinstance(part, VTrace):
            return part.targets(columns)
        if isinstance(part, BiLevelGae):
            return value_targets(columns, gamma=part.gamma, gamma_turn=part.gamma_turn)
        if isinstance(part, Gae):
            return value_targets(columns, gamma=1.0 if part.level == "turn" else part.gamma, gamma_turn=part.gamma)
    return value_targets(columns)
