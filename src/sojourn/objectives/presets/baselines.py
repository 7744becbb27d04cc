"""Algorithms named after what a return is compared with: the group, the batch, another rollout.  No critic."""

from __future__ import annotations

from sojourn.credit import (
    GDPO,
    GPG,
    GivenBaseline,
    GroupRelative,
    KlInReward,
    MaxRL,
    Normaliser,
    OptimalTokenBaseline,
    PassK,
    PassKBest,
    Then,
    TokenReturns,
    Whiten,
    dr_grpo,
    grpo,
    opo,
    rloo,
)
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import DAPO_CLIPS, FROZEN, HIGHER, PPO_CLIP, PPO_CLIPS, REINFORCE, SEQUENCES, SUMS
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.trust_region import Unclipped

BASELINES: dict[str, Preset] = {
    "reinforce": Preset(
        title="REINFORCE",
        paper="Williams 1992, Machine Learning 8",
        credit=GroupRelative(normaliser=Normaliser(mean="none", deviation="none")),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped(), aggregation=SUMS),
    ),
    "reinforce_baseline": Preset(
        title="REINFORCE with the batch's mean as baseline",
        paper="Williams 1992, Machine Learning 8",
        credit=GroupRelative(normaliser=Normaliser(mean="batch", deviation="none")),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped(), aggregation=SUMS),
    ),
    "rloo": Preset(
        title="RLOO",
        paper="arXiv 2402.14740",
        credit=KlInReward(credit=rloo(), coefficient=0.03),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped(), aggregation=SUMS),
        reference=FROZEN,
        constants=("beta 0.03: app. C of the paper",),
    ),
    "remax": Preset(
        title="ReMax",
        paper="arXiv 2310.10505",
        credit=GivenBaseline(),
        objective=REINFORCE,
        note="columns.baseline_E holds the greedy rollout's return",
    ),
    "opo": Preset(title="OPO", paper="arXiv 2505.23585", credit=opo, objective=REINFORCE, note="strictly on-policy"),
    "gpg": Preset(title="GPG", paper="arXiv 2504.02546", credit=GPG(), objective=REINFORCE),
    "otb": Preset(
        title="Optimal token baseline",
        paper="arXiv 2602.07078",
        credit=OptimalTokenBaseline(),
        objective=REINFORCE,
        note="columns.square_T holds the sums of squared probabilities",
    ),
    "grpo": Preset(
        title="GRPO",
        paper="arXiv 2402.03300",
        credit=grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.04), aggregation=SEQUENCES),
        reference=FROZEN,
        constants=("beta 0.04: DeepSeekMath, sec. 4.2", PPO_CLIPS),
    ),
    "dr_grpo": Preset(
        title="Dr. GRPO",
        paper="arXiv 2503.20783",
        credit=dr_grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, aggregation=Aggregation(over="constant", length=3000)),
        constants=("L 3000: the response budget of the official code", PPO_CLIPS),
    ),
    "lite_ppo": Preset(
        title="Lite PPO",
        paper="arXiv 2508.08221",
        credit=GroupRelative(normaliser=Normaliser(mean="group", deviation="batch")),
        objective=PolicyGradient(trust_region=PPO_CLIP),
        constants=(PPO_CLIPS,),
    ),
    "reinforce_pp": Preset(
        title="REINFORCE++",
        paper="arXiv 2501.03262",
        credit=KlInReward(credit=Then(credit=TokenReturns(), transforms=(Whiten(),)), coefficient=0.001),
        objective=PolicyGradient(trust_region=PPO_CLIP),
        reference=FROZEN,
        constants=("clip 0.2, beta 0.001: the paper's first version, table 1 (mathematics)",),
        note="corrected for many turns: every turn gets the return that follows it, not the last turn alone",
    ),
    "reinforce_pp_baseline": Preset(
        title="REINFORCE++ with a group baseline",
        paper="arXiv 2501.03262",
        credit=Then(credit=dr_grpo(), transforms=(Whiten(),)),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.001, estimator="k2")),
        reference=FROZEN,
        constants=(PPO_CLIPS, "k2 in the loss: eq. 8 of the paper; beta 0.001: verl's script"),
    ),
    "maxrl": Preset(title="MaxRL", paper="arXiv 2602.02710", credit=MaxRL(), objective=REINFORCE),
    "passk_best": Preset(
        title="Pass@k, best of group",
        paper="arXiv 2503.19595",
        credit=PassKBest(),
        objective=PolicyGradient(trust_region=PPO_CLIP),
        constants=(PPO_CLIPS,),
    ),
    "passk": Preset(
        title="Pass@k training",
        paper="arXiv 2508.10751",
        credit=PassK(k=4),
        objective=PolicyGradient(trust_region=HIGHER),
        constants=("k 4 or 8: the paper's runs; start with it and end with pass@1", DAPO_CLIPS),
    ),
    "gdpo": Preset(
        title="GDPO",
        paper="arXiv 2601.05242",
        credit=GDPO(),
        objective=PolicyGradient(trust_region=HIGHER),
        constants=(DAPO_CLIPS,),
    ),
}
