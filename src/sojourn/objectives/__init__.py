"""Objectives: advantages to a loss.  Pure torch, one family a file; called as `objective(inputs) -> (loss, metrics)`."""

from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.batch_rules import BatchRule, ClipCov, KlCov, TopEntropy
from sojourn.objectives.controllers import EntropyTarget, KlTarget, Reference
from sojourn.objectives.correction import Correction, Importance, NegativeSequenceMask, SecondMoment
from sojourn.objectives.critic import CriticInputs, ValueLoss
from sojourn.objectives.inputs import Denominators, LossInputs, Metrics, Objective, imitates
from sojourn.objectives.kl import Kl
from sojourn.objectives.kto import Kto
from sojourn.objectives.perception import Perception
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.preference import Dpo, Ipo, Orpo, SimPo
from sojourn.objectives.preference_mixes import BetaDpo, Mpo
from sojourn.objectives.ratio import proximal_logp
from sojourn.objectives.smooth import Dppo, GeometricMean, Sapo
from sojourn.objectives.supervised import AdvantageWeighted, Mix, Supervised
from sojourn.objectives.trust_region import Clip, TrustRegion, Unclipped
from sojourn.objectives.weighted import Cispo, Kimi, Topr, Vespo

__all__ = [
    "AdvantageWeighted", "Aggregation", "BatchRule", "BetaDpo", "Cispo", "Clip", "ClipCov", "Correction", "CriticInputs",
    "Denominators", "Dpo", "Dppo", "EntropyTarget", "GeometricMean", "Importance", "Ipo", "Kimi", "Kl", "KlCov", "KlTarget", "Kto",
    "LossInputs", "Metrics", "Mix", "Mpo", "NegativeSequenceMask", "Objective", "Orpo", "Perception", "PolicyGradient",
    "Reference", "Sapo", "SecondMoment", "SimPo", "Supervised", "TopEntropy", "Topr", "TrustRegion", "Unclipped", "ValueLoss",
    "Vespo", "imitates", "proximal_logp",
]  # fmt: skip
