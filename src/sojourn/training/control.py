"""Coefficients that follow a target, from step to step: the trainer's part of `sojourn.objectives.controllers`.

Parts say which coefficients they have and where these start (`sojourn.credit.needs`); what has become of them reaches credit and loss as
an input (`Columns.coefficients`, `LossInputs.coefficients`).
"""

from __future__ import annotations

from sojourn.credit.needs import coefficients
from sojourn.training.config import Experiment


class Coefficients:
    """The coefficients that an experiment's targets move, from those it is written with."""

    def __init__(self, experiment: Experiment) -> None:
        self._kl_target, self._entropy_target = experiment.kl_target, experiment.entropy_target
        targets = {"kl_coefficient": experiment.kl_target, "entropy_coefficient": experiment.entropy_target}
        starts = coefficients(experiment.credit, experiment.objective)
        self.now = {name: starts[name] for name, target in targets.items() if target is not None}

    def of(self, entropy: float) -> dict[str, float]:
        """Those of a batch of this entropy."""
        applied = dict(self.now)
        if self._entropy_target is not None:
            applied["entropy_coefficient"] = self._entropy_target.applied(self.now["entropy_coefficient"], entropy)
        return applied

    def observe(self, *, kl: float | None, entropy: float, samples: int) -> None:
        """Learn what a batch of so many episodes came to; `kl` is None if nothing was measured."""
        if self._kl_target is not None and kl is not None:
            self.now["kl_coefficient"] = self._kl_target.next(self.now["kl_coefficient"], kl, samples=samples)
        if self._entropy_target is not None:
            self.now["entropy_coefficient"] = self._entropy_target.next(self.now["entropy_coefficient"], entropy)
