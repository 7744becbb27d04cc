"""Parts that several presets share."""

from __future__ import annotations

from sojourn.credit import Normaliser
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.controllers import Reference
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.trust_region import Clip, Unclipped

FROZEN = Reference(kind="frozen")
PPO_CLIP = Clip(low=0.2, high=0.2)
HIGHER = Clip(low=0.2, high=0.28)
SEQUENCES = Aggregation(over="sequences")
SUMS = Aggregation(over="sequence_sums")
REINFORCE = PolicyGradient(granularity="none", trust_region=Unclipped())
MEAN_ONLY = Normaliser(deviation="none")

PPO_CLIPS = "clip 0.2: PPO's (arXiv 1707.06347, table 1)"
DAPO_CLIPS = "clip 0.2 / 0.28: DAPO's (arXiv 2503.14476, sec. 4.1)"
