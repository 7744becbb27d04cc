"""Algorithms named after how far an update may go: ratios of other granularity, other clips, weights, muted tokens."""

from __future__ import annotations

from sojourn.credit import GroupRelative, ZeroSignal, grpo
from sojourn.objectives.batch_rules import ClipCov, KlCov, TopEntropy
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import DAPO_CLIPS, FROZEN, HIGHER, MEAN_ONLY, PPO_CLIP, PPO_CLIPS, SEQUENCES, SUMS
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.smooth import Dppo, GeometricMean, Sapo
from sojourn.objectives.trust_region import Clip
from sojourn.objectives.weighted import Cispo, Kimi, Topr, Vespo

TRUST_REGIONS: dict[str, Preset] = {
    "gspo": Preset(
        title="GSPO",
        paper="arXiv 2507.18071",
        credit=grpo(),
        objective=PolicyGradient(granularity="sequence", trust_region=Clip(low=3e-4, high=4e-4), aggregation=SEQUENCES),
        constants=("clip 3e-4 / 4e-4: sec. 5.1 of the paper",),
    ),
    "luspo": Preset(
        title="LUSPO",
        paper="arXiv 2602.05261",
        credit=grpo(),
        objective=PolicyGradient(granularity="sequence", trust_region=Clip(low=2e-3, high=2.5e-3), aggregation=SUMS),
        constants=("clip 2e-3 / 2.5e-3: sec. 5.1 of the paper, as quoted by TRL",),
    ),
    "turn_gspo": Preset(
        title="GSPO with one ratio for each turn",
        paper="ROLL, segment ratio",
        credit=grpo(),
        objective=PolicyGradient(granularity="turn", trust_region=Clip(low=3e-4, high=4e-4), aggregation=SEQUENCES),
        constants=("clip 3e-4 / 4e-4: GSPO's (arXiv 2507.18071, sec. 5.1)",),
    ),
    "gmpo": Preset(
        title="GMPO",
        paper="arXiv 2507.20673",
        credit=grpo(),
        objective=PolicyGradient(granularity="sequence", trust_region=GeometricMean(), aggregation=SEQUENCES),
        constants=("clip e^-0.4, e^0.4: sec. 3 of the paper",),
    ),
    "cispo": Preset(
        title="CISPO",
        paper="MiniMax-M1, arXiv 2506.13585",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Cispo(low=1.0, high=4.0)),
        constants=("range [0, 5]: ScaleRL; the paper bounds only the upper side",),
    ),
    "sapo": Preset(
        title="SAPO",
        paper="arXiv 2511.20347",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Sapo(), aggregation=SEQUENCES),
        constants=("tau 1.0 / 1.05: paper and frameworks",),
    ),
    "topr": Preset(
        title="TOPR",
        paper="arXiv 2503.14286",
        credit=GroupRelative(normaliser=MEAN_ONLY),
        objective=PolicyGradient(granularity="product", trust_region=Topr(), centre="behaviour", aggregation=SUMS),
        constants=("weights in [0, 1] where A < 0: the paper",),
        note="what went well is told by the sign of the advantage, in the paper by the sign of the reward",
    ),
    "kimi": Preset(
        title="Kimi k1.5 mirror descent",
        paper="arXiv 2501.12599",
        credit=GroupRelative(normaliser=MEAN_ONLY),
        objective=PolicyGradient(trust_region=Kimi(tau=0.1)),
        constants=("tau 0.1: framework default; the paper gives none",),
        note="token by token, as frameworks do; the paper's square is over the whole answer (granularity 'product')",
    ),
    "vespo": Preset(
        title="VESPO",
        paper="arXiv 2602.10693",
        credit=grpo(),
        objective=PolicyGradient(granularity="product", trust_region=Vespo(), centre="behaviour"),
        constants=("(k, lambda) 2, 3 for A > 0 and 3, 2 for A < 0: framework default",),
    ),
    "clip_cov": Preset(
        title="Clip-Cov",
        paper="arXiv 2505.22617",
        credit=grpo(),
        objective=PolicyGradient(trust_region=ClipCov(clip=PPO_CLIP)),
        constants=("share 2e-4, band 1 to 5: sec. 4.3 of the paper", PPO_CLIPS),
    ),
    "kl_cov": Preset(
        title="KL-Cov",
        paper="arXiv 2505.22617",
        credit=grpo(),
        objective=PolicyGradient(trust_region=KlCov()),
        constants=("share 2e-4, coefficient 1: sec. 4.3 of the paper (32B; 2e-3 for 7B)",),
    ),
    "top_entropy": Preset(
        title="80/20: train the forking tokens",
        paper="arXiv 2506.01939",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER, focus=TopEntropy(share=0.2)),
        filters=(ZeroSignal(),),
        constants=("share 0.2: the 20 of the title", DAPO_CLIPS),
    ),
    "intellect2": Preset(
        title="INTELLECT-2, two-sided clip",
        paper="arXiv 2505.07291",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2, two_sided=4.0), kl=Kl(coefficient=0.001)),
        filters=(ZeroSignal(),),
        reference=FROZEN,
        constants=("delta 4, clip 0.2, beta 0.001: sec. 4.1 of the paper",),
    ),
    "dppo": Preset(
        title="DPPO, total variation",
        paper="arXiv 2602.04879",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Dppo(), centre="behaviour"),
        constants=("bounds 0.2: framework default",),
    ),
}
