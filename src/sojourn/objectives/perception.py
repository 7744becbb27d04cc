"""Look before you answer: an answer that is as likely without the observation was not read from it.

    Perception   -gamma KL(pi || pi_blind) + eta (H + H_blind)        [PAPO, arXiv 2507.06448; KL as k3 on sampled tokens]

pi_blind is the policy whose observation was corrupted: patches of a picture; here words of what the world says (`training.blindfold`).
The two entropies keep the divergence, which has no bound, from being won by blowing up either side.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.inputs import LossInputs, Metrics
from sojourn.objectives.kl import estimate


@checked
class Perception:
    """The term that PAPO adds to a policy gradient (`Mix`).  Reads `inputs.blind_logp` and `inputs.blind_entropy`: the learner scores the same
    answer behind the corrupted observation, with gradient."""

    gamma: float = 0.01
    """Weight of the divergence, per nat; raising it makes answers depend on what is seen."""
    eta: float = 0.03
    """Weight of both entropies."""
    aggregation: Aggregation = Aggregation()
    """How token losses become one number."""
    reads: ClassVar[frozenset[str]] = frozenset({"blind_logp"})

    def __post_init__(self) -> None:
        within(self, gamma=(0, INF), eta=(0, INF))

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        if inputs.blind_logp is None or inputs.blind_entropy is None or inputs.entropy is None:
            raise ValueError(
                "Perception needs the log-probabilities and entropies of the answer behind a corrupted observation (inputs.blind_logp, "
                "inputs.blind_entropy): score it once more there, or drop the term"
            )
        divergence = estimate(inputs.logp, inputs.blind_logp, "k3")
        loss_T = self.eta * (inputs.entropy + inputs.blind_entropy) - self.gamma * divergence
        loss = (self.aggregation.weights(inputs) * loss_T).sum()
        return loss, {"loss": float(loss.detach()), "perception": float(divergence.detach().sum() / inputs.counts.tokens)}
