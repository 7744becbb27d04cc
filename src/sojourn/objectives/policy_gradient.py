"""The policy-gradient objective: one tuple of orthogonal parts.

    loss = sum_t w_t [ c_t f(r_t, A_t) + beta KL_t - eta H_t ]

w_t aggregation, c_t off-policy weight (detached), f trust region, r_t ratio at its granularity, KL_t divergence from the
reference, H_t entropy.  A published algorithm is a choice of each (`sojourn.objectives.presets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from sojourn.credit.needs import Composite, coefficients, traits
from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.batch_rules import BatchRule, TopEntropy
from sojourn.objectives.correction import Correction
from sojourn.objectives.inputs import LossInputs, Metrics, Reach
from sojourn.objectives.kl import Kl
from sojourn.objectives.ratio import Centre, Granularity, capped_exp, log_ratio
from sojourn.objectives.trust_region import Clip, TrustRegion, Unclipped

WIDER: tuple[Reach, ...] = ("token", "turn", "sequence")
REACH: dict[str, Reach] = {"none": "token", "token": "token", "turn": "turn", "sequence": "sequence", "product": "sequence"}
"""How far an advantage works through a ratio or a weight of each granularity."""


@checked
class PolicyGradient(Composite):
    """Advantages to loss.  The default is the token-mean clipped objective with a raised upper bound (DAPO's, eq. 8)."""

    granularity: Granularity = "token"
    """Over what the ratio is taken."""
    trust_region: TrustRegion = Clip(low=0.2, high=0.28)
    """How a ratio that moved too far is cut."""
    centre: Centre = "old"
    """The ratio's denominator: the policy at the start of the update ("old"), or the one that sampled ("behaviour")."""
    corrections: tuple[Correction, ...] = ()
    """Off-policy weights and masks, multiplied."""
    kl: Kl | None = None
    """Divergence from the reference."""
    aggregation: Aggregation = Aggregation()
    """How token losses become one number."""
    entropy: float = 0.0
    """Entropy bonus; raising it keeps the policy random."""
    focus: TopEntropy | None = None
    """Which tokens are trained at all; None trains every action token."""

    def __post_init__(self) -> None:
        within(self, entropy=(0, INF))
        weighing = sum(correction.weighs for correction in self.corrections)
        if weighing > 1 or (weighing and self.centre == "behaviour" and self.granularity != "none"):
            raise ValueError(
                "the importance weight against the sampling policy is applied twice: keep one weighing correction, and none with "
                "centre='behaviour' (its ratio already is that weight); masks may stay"
            )
        if self.granularity == "none" and not isinstance(self.trust_region, Unclipped):
            name = type(self.trust_region).__name__
            raise ValueError(f"granularity 'none' has no ratio for {name} to bound; use Unclipped(), or another granularity")

    def reach(self, moved: Mapping[str, float] = MappingProxyType({})) -> Reach | None:
        """How far an advantage works.  Where a token's turn (its sequence; the token itself) holds no advantage, the token adds
        nothing to the loss and a learner may skip it.  None if other terms act on every token.

        moved: coefficients that a target has moved.
        """
        alone = self.trust_region.reach
        if self.kl is not None or moved.get("entropy_coefficient", self.entropy) or alone is None:
            return None
        levels = (self.granularity, *(correction.granularity for correction in self.corrections))
        return max((alone, *map(REACH.__getitem__, levels)), key=WIDER.index)

    @property
    def made_of(self) -> tuple[object, ...]:
        return (*self.corrections, self.trust_region, self.kl, self.focus)

    @property
    def traits(self) -> frozenset[str]:
        ratio, corrected = self.granularity != "none", any(correction.weighs for correction in self.corrections)
        # without a correction that tells the policy at the start from the one that sampled, the ratio is against what sampled
        bridged = corrected or (ratio and (self.centre == "behaviour" or "old_logp" not in self.reads))
        said = {"weighs": ratio or corrected, "on-policy": not bridged, "no ratio": not ratio}
        return traits(*self.made_of) | {name for name, true in said.items() if true}

    @property
    def coefficients(self) -> dict[str, float]:
        return coefficients(*self.made_of) | {"entropy_coefficient": self.entropy}

    def prepare(self, inputs: LossInputs) -> LossInputs:
        """Let the parts that look at the whole batch do so.  Call once, on the whole batch, before taking micro-batches."""
        for part in (*self.corrections, self.trust_region, self.focus):
            if isinstance(part, BatchRule):
                inputs = part.prepare(inputs)
        return replace(inputs, prepared=True)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        """Loss (scalar) and metrics of a micro-batch; both add up."""
        inputs = inputs if inputs.prepared else self.prepare(inputs)
        log = log_ratio(inputs, self.centre)
        loss_T, cut = self.trust_region(log, self.granularity, inputs)
        metrics = _metrics(log, cut, inputs)
        for correction in self.corrections:
            loss_T = loss_T * correction(inputs)
        if inputs.weight is not None:
            loss_T = loss_T * inputs.weight
        if self.kl is not None:
            divergence = self.kl(inputs)
            loss_T = loss_T + inputs.coefficients.get("kl_coefficient", self.kl.coefficient) * divergence
            metrics["kl"] = _mean(divergence, inputs)
        bonus = inputs.coefficients.get("entropy_coefficient", self.entropy)
        if bonus and inputs.entropy is None:
            raise ValueError(f"entropy bonus {bonus:g} needs the entropy at each token; let the learner compute it")
        if inputs.entropy is not None:
            loss_T = loss_T - bonus * inputs.entropy
            metrics["entropy"] = _mean(inputs.entropy, inputs)
        loss = (self.aggregation.weights(inputs) * loss_T).sum()
        return loss, metrics | {"loss": float(loss.detach())}


def _mean(value_T: Tensor, inputs: LossInputs) -> float:
    """This micro-batch's part of the batch's token mean."""
    return float(value_T.detach().sum() / inputs.counts.tokens)


def _metrics(log: Tensor, cut: Tensor, inputs: LossInputs) -> Metrics:
    good = inputs.advantage > 0
    mismatch = (inputs.old_logp - inputs.behaviour_logp).detach()
    return {
        "ratio": _mean(capped_exp(log), inputs),
        "cut_high": _mean((cut & good).to(log.dtype), inputs),
        "cut_low": _mean((cut & ~good).to(log.dtype), inputs),
        "mismatch_k3": _mean(capped_exp(mismatch) - 1 - mismatch, inputs),
        "advantage": _mean(inputs.advantage.abs(), inputs),
    }
