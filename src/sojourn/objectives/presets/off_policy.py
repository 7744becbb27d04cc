"""GRPO on samples that another policy drew: an engine with other numerics, or older weights."""

from __future__ import annotations

from math import inf

from sojourn.credit import grpo
from sojourn.objectives.correction import Importance, SecondMoment
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import DAPO_CLIPS, HIGHER, PPO_CLIP, PPO_CLIPS
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.trust_region import Unclipped

OFF_POLICY: dict[str, Preset] = {
    "tis": Preset(
        title="GRPO with truncated importance sampling",
        paper="Yao et al. 2025, fengyao.notion.site/off-policy-rl; verl, slime",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER, corrections=(Importance(action="truncate", high=2.0),)),
        constants=("cap 2: framework default", DAPO_CLIPS),
    ),
    "icepop": Preset(
        title="IcePop",
        paper="arXiv 2510.18855",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER, corrections=(Importance(action="both", low=0.5, high=5.0),)),
        constants=("band 0.5 to 5: framework default", DAPO_CLIPS),
    ),
    "seq_mask_tis": Preset(
        title="Token weights with a sequence mask",
        paper="seq-mask-TIS, as in OpenRLHF",
        credit=grpo(),
        objective=PolicyGradient(
            trust_region=HIGHER,
            corrections=(Importance(action="mask", low=0.5, high=5.0, granularity="sequence"), Importance(high=inf)),
        ),
        constants=("band 0.5 to 5 of the geometric mean: framework default", DAPO_CLIPS),
        note="despite the name the weights of tokens have no cap, as in that framework's code",
    ),
    "decoupled_ppo": Preset(
        title="Decoupled PPO objective with group advantages",
        paper="AReaL, arXiv 2505.24298",
        credit=grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, corrections=(Importance(action="truncate", high=5.0),)),
        constants=("cap 5: framework default", PPO_CLIPS),
    ),
    "m2po": Preset(
        title="M2PO",
        paper="arXiv 2510.01161",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Unclipped(), centre="behaviour", corrections=(SecondMoment(tau=0.04),)),
        constants=("tau 0.04: the paper's one value, as we understand it",),
    ),
}
