"""A published algorithm by name, in place of a recipe's own credit and objective; and what an experiment is refused or warned for."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from sojourn.credit import Columns, reads
from sojourn.credit.columns import Floats
from sojourn.credit.needs import COLUMNS, reader, traits
from sojourn.objectives import imitates
from sojourn.objectives.inputs import compares
from sojourn.objectives.presets import check, preset
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.filling import nobody_fills


def applied(experiment: Experiment, config: TrainConfig) -> Experiment:
    """The experiment with `config.algorithm`, if one is named.  Raises `ValueError` for an algorithm that would imitate all that the
    policy itself says."""
    if not config.algorithm:
        return experiment
    chosen = preset(config.algorithm)
    if chosen.credit is None and not compares(chosen.objective) and not config.learn_from:
        raise ValueError(
            f"algorithm '{config.algorithm}' ({chosen.title}) imitates all that it is shown: give it --learn-from, a data set or a run "
            "folder whose episodes are worth it, or choose 'rft'"
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
    if config.temperature == 0:
        raise ValueError(
            "temperature=0 is greedy: the samples of a task are all the same, so nothing is learned; choose one above 0"
        )
    title = _title(config)
    check(experiment, title, group_size=group_size)
    for name in nobody_fills(experiment):
        who, what = reader(name, experiment.credit, experiment.objective), COLUMNS.get(name, "no column that we know")
        raise ValueError(f"{title}: {who} reads {name} ({what}); let an objective of your own bring them, or drop that part")
    kind = experiment.reference.kind
    if config.teacher and kind != "frozen":
        reason = "nothing reads a reference" if kind == "none" else f"reference.kind is '{kind}', which follows the policy"
        raise ValueError(
            f"{title}: the teacher is '{config.teacher}', but {reason}; drop the teacher, or set reference.kind 'frozen'"
        )
    if config.lora_dropout and not imitates(experiment.objective):
        raise ValueError(
            f"{title}: lora_dropout is {config.lora_dropout}, but nothing was dropped when the answers were sampled, so their ratios would be "
            "of two policies; set lora_dropout=0, or choose an algorithm that imitates"
        )
    if config.replay:
        _refuse_replay(experiment, config, title)
    if not config.teacher and "teacher" in traits(experiment.credit):
        raise ValueError(
            f"{title}: distillation needs a teacher, for the first policy has nothing to teach itself; name a model or a run folder "
            "with --teacher"
        )


def _refuse_replay(experiment: Experiment, config: TrainConfig, title: str) -> None:
    """Raise for what cannot learn from groups of earlier steps."""
    if experiment.credit is no_credit:
        raise ValueError(f"{title} reads no advantage, by which groups worth remembering are told: replay=0")
    if config.learn_from or "value_S" in reads(experiment.credit):
        what = "learns from stored episodes only" if config.learn_from else "reads values that are not stored"
        raise ValueError(f"{title} {what}: replay=0")
    if "on-policy" in traits(experiment.objective) and "weighs" not in traits(experiment.credit):
        raise ValueError(
            f"{title}: replayed groups were sampled by older weights, and neither a ratio nor a correction accounts for that; choose a "
            "granularity other than 'none', add corrections=(Importance(),), or set replay=0"
        )


def warn(experiment: Experiment, config: TrainConfig) -> None:
    """Say what works otherwise than its formula promises: several updates of a rollout, and no ratio that would notice."""
    updates = config.epochs * config.minibatches
    if updates > 1 and "no ratio" in traits(experiment.objective):
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
