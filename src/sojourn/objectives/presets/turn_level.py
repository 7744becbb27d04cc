"""Algorithms for many turns and for trees, and those with a critic."""

from __future__ import annotations

from sojourn.credit import (
    MTGRPO,
    BiLevelGae,
    Distillation,
    EntropyBonus,
    Gae,
    GiGPO,
    KlInReward,
    LeafRelative,
    Normaliser,
    ProcessRewards,
    StepRelative,
    Then,
    TopVariance,
    TreePO,
    TreeRPO,
    VTrace,
    Whiten,
    grpo,
)
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.controllers import Reference
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.supervised import Mix, Supervised
from sojourn.objectives.trust_region import Clip, Unclipped

FROZEN = Reference(kind="frozen")
PPO = PolicyGradient(trust_region=Clip(low=0.2, high=0.2))
HIGHER = PolicyGradient(trust_region=Clip(low=0.2, high=0.28))
SEQUENCES = Aggregation(over="sequences")

TURN_LEVEL: dict[str, Preset] = {
    "ppo": Preset(
        title="PPO as in RLHF",
        paper="arXiv 1707.06347; arXiv 2203.02155",
        credit=KlInReward(credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)), coefficient=0.05),
        objective=PPO,
        reference=FROZEN,
        critic=ValueLoss(clip=0.2),
        constants=("clip 0.2, lambda 0.95: arXiv 1707.06347, table 3", "beta 0.05: within the usual 0.05 to 0.1"),
    ),
    "ppo_plain": Preset(
        title="PPO without a reference",
        paper="arXiv 1707.06347",
        credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(clip=0.2),
    ),
    "vc_ppo": Preset(
        title="VC-PPO",
        paper="arXiv 2503.01491",
        credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(warm_up=50),
        note="the critic's targets have lambda 1 (value_targets)",
    ),
    "vapo": Preset(
        title="VAPO",
        paper="arXiv 2504.05118",
        credit=Then(credit=Gae(alpha=0.05), transforms=(Whiten(),)),
        objective=Mix(parts=(HIGHER, Supervised(positive_only=True)), weights=(1.0, 0.1)),
        critic=ValueLoss(warm_up=50),
        constants=("alpha 0.05, clip 0.2 / 0.28, likelihood weight 0.1, 50 warm-up steps: the paper",),
        note="the critic's targets have lambda 1 (value_targets); likelihood: tokens with A > 0, in the paper right answers",
    ),
    "turn_ppo": Preset(
        title="PPO with turns as steps",
        paper="arXiv 1506.02438 on turns",
        credit=Then(credit=Gae(level="turn", gamma=0.99, lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(clip=0.2),
    ),
    "vine_ppo": Preset(
        title="VinePPO",
        paper="arXiv 2410.01679",
        credit=Gae(level="turn", lam=0.0, monte_carlo=True),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=1e-4)),
        reference=FROZEN,
        constants=("K 9 rollouts for each state: the paper",),
        note="value_rollouts=9 continuations from before each action; the environment must be restorable",
    ),
    "impala": Preset(
        title="V-trace actor-critic",
        paper="arXiv 1802.01561",
        credit=VTrace(),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped(), entropy=0.001),
        critic=ValueLoss(),
    ),
    "ragen": Preset(
        title="StarPO with bi-level GAE",
        paper="RAGEN, arXiv 2504.20073",
        credit=Then(credit=BiLevelGae(gamma_turn=0.95), transforms=(Whiten(),)),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.28), entropy=0.001),
        critic=ValueLoss(clip=0.5),
        constants=("gamma 0.95 between turns, entropy 0.001: official code",),
    ),
    "starpo_s": Preset(
        title="StarPO-S",
        paper="RAGEN, arXiv 2504.20073",
        credit=Then(credit=Gae(lam=1.0), transforms=(Whiten(),)),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.28), entropy=0.001),
        filters=(TopVariance(share=0.25),),
        critic=ValueLoss(clip=0.5),
        constants=("keeps the most varied 25 % of groups: official code",),
    ),
    "starpo_grpo": Preset(
        title="StarPO with group advantages",
        paper="RAGEN, arXiv 2504.20073",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.28), entropy=0.001),
        filters=(TopVariance(share=0.25),),
    ),
    "gigpo": Preset(
        title="GiGPO",
        paper="arXiv 2505.10978",
        credit=GiGPO(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=0.01), aggregation=SEQUENCES),
        reference=FROZEN,
        constants=("gamma 0.95, omega 1, beta 0.01: official scripts",),
        note="an invalid action costs 0.1, paid by the environment",
    ),
    "mt_grpo": Preset(
        title="MT-GRPO",
        paper="arXiv 2505.11821",
        credit=MTGRPO(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=0.01)),
        reference=FROZEN,
        constants=("kappa 1, beta 0.01: official code",),
    ),
    "grpo_process": Preset(
        title="GRPO with process supervision",
        paper="arXiv 2402.03300",
        credit=ProcessRewards(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=0.04), aggregation=SEQUENCES),
        reference=FROZEN,
    ),
    "igpo": Preset(
        title="IGPO",
        paper="arXiv 2510.14967",
        credit=ProcessRewards(turn_terms=("information",)),
        objective=PPO,
        note="the term 'information' of an action is the gain in mean log-probability of the right answer it brought",
    ),
    "magrpo": Preset(
        title="MAGRPO",
        paper="arXiv 2508.04652",
        credit=StepRelative(bucket="turn", normaliser=Normaliser(deviation="none")),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped()),
        note="all agents share the joint reward",
    ),
    "step_reinforce": Preset(
        title="REINFORCE on discounted step returns",
        paper="as in ROLL",
        credit=StepRelative(bucket="batch", gamma=0.95),
        objective=PPO,
    ),
    "arpo": Preset(
        title="ARPO, soft",
        paper="arXiv 2507.19849",
        credit=LeafRelative(shared="soft"),
        objective=PPO,
        note="branching by entropy is the agent program's part",
    ),
    "arpo_hard": Preset(title="ARPO, hard", paper="arXiv 2507.19849", credit=LeafRelative(shared="hard"), objective=PPO),
    "tree_rpo": Preset(
        title="TreeRPO",
        paper="arXiv 2506.05183",
        credit=TreeRPO(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2), kl=Kl(coefficient=0.001), aggregation=SEQUENCES),
        reference=FROZEN,
    ),
    "tree_po": Preset(
        title="TreePO", paper="arXiv 2508.17445", credit=Then(credit=TreePO(), transforms=(Whiten(centre=False),)), objective=PPO
    ),
    "entropy_advantage": Preset(
        title="Entropy-shaped advantages",
        paper="arXiv 2506.14758",
        credit=Then(credit=grpo(), transforms=(EntropyBonus(),)),
        objective=HIGHER,
        note="columns.entropy_T holds the entropies",
    ),
    "distillation": Preset(
        title="On-policy distillation",
        paper="arXiv 2306.13649",
        credit=Distillation(),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped()),
        reference=FROZEN,
        note="the reference is the teacher",
    ),
}
