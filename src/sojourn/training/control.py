"""Coefficients that follow a target, from step to step: the trainer's part of `sojourn.objectives.controllers`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from sojourn.credit import KlInReward
from sojourn.objectives import Kl, PolicyGradient
from sojourn.objectives.presets.refusals import walk
from sojourn.training.config import Experiment


class Coefficients:
    """The coefficients that an experiment's targets move, from those it is written with."""

    def __init__(self, experiment: Experiment) -> None:
        self._kl_target, self._entropy_target = experiment.kl_target, experiment.entropy_target
        self.now: dict[str, float] = {}
        parts = [*walk(experiment.credit), *walk(experiment.objective)]
        if self._kl_target is not None:
            self.now["kl_coefficient"] = next(part.coefficient for part in parts if isinstance(part, Kl | KlInReward))
        if self._entropy_target is not None:
            self.now["entropy_coefficient"] = next(part.entropy for part in parts if isinstance(part, PolicyGradient))

    def applied(self, experiment: Experiment, entropy: float) -> Experiment:
        """The experiment with the coefficients of a batch of this entropy."""
        changes: dict[tuple[type, ...], dict[str, float]] = {}
        if self._kl_target is not None:
            changes[Kl, KlInReward] = {"coefficient": self.now["kl_coefficient"]}
        if self._entropy_target is not None:
            bonus = self._entropy_target.applied(self.now["entropy_coefficient"], entropy)
            changes[(PolicyGradient,)] = {"entropy": bonus}
        if not changes:
            return experiment
        return replace(experiment, credit=_changed(experiment.credit, changes), objective=_changed(experiment.objective, changes))

    def observe(self, *, kl: float | None, entropy: float, samples: int) -> None:
        """Learn what a batch of so many episodes came to; `kl` is None if nothing was measured."""
        if self._kl_target is not None and kl is not None:
            self.now["kl_coefficient"] = self._kl_target.next(self.now["kl_coefficient"], kl, samples=samples)
        if self._entropy_target is not None:
            self.now["entropy_coefficient"] = self._entropy_target.next(self.now["entropy_coefficient"], entropy)


def _changed(part: Any, changes: dict[tuple[type, ...], dict[str, float]]) -> Any:
    """A part with fields of the kinds within it, or of itself, set anew."""
    if isinstance(part, tuple):
        return tuple(_changed(each, changes) for each in part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    new = {field.name: _changed(getattr(part, field.name), changes) for field in fields(part)}
    for kinds, values in changes.items():
        if isinstance(part, kinds):
            new |= values
    return replace(part, **new)
