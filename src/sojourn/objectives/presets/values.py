"""Algorithms with values of states: from a critic, or from fresh rollouts."""

from __future__ import annotations

from sojourn.credit import BiLevelGae, Gae, KlInReward, Then, TopVariance, VTrace, Whiten, grpo
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import FROZEN, HIGHER, PPO_CLIP, PPO_CLIPS
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.supervised import Mix, Supervised
from sojourn.objectives.trust_region import Unclipped

PPO = PolicyGradient(trust_region=PPO_CLIP)
STARPO = PolicyGradient(trust_region=HIGHER, entropy=0.001)
LAMBDA = "lambda 0.95: PPO's (arXiv 1707.06347, table 3)"
VALUE_CLIP = "value clip 0.2: within the usual 0.2 to 0.5"
STARPO_CLIPS = "clip 0.2 / 0.28, entropy 0.001: official code; value clip 0.5: framework default"

VALUES: dict[str, Preset] = {
    "ppo": Preset(
        title="PPO as in RLHF",
        paper="arXiv 1707.06347; arXiv 2203.02155",
        credit=KlInReward(credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)), coefficient=0.05),
        objective=PPO,
        reference=FROZEN,
        critic=ValueLoss(clip=0.2),
        constants=(PPO_CLIPS, LAMBDA, "beta 0.05: within the usual 0.05 to 0.1", VALUE_CLIP),
    ),
    "ppo_plain": Preset(
        title="PPO without a reference",
        paper="arXiv 1707.06347",
        credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(clip=0.2),
        constants=(PPO_CLIPS, LAMBDA, VALUE_CLIP),
    ),
    "vc_ppo": Preset(
        title="VC-PPO",
        paper="arXiv 2503.01491",
        credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(warm_up=50),
        constants=(
            PPO_CLIPS,
            "lambda 0.95 of the policy: the paper, as we understand it",
            "50 rollouts for the critic alone: VAPO's (arXiv 2504.05118)",
        ),
        note="the critic's targets have lambda 1 (value_targets)",
    ),
    "vapo": Preset(
        title="VAPO",
        paper="arXiv 2504.05118",
        credit=Then(credit=Gae(alpha=0.05), transforms=(Whiten(),)),
        objective=Mix(parts=(PolicyGradient(trust_region=HIGHER), Supervised(positive_only=True)), weights=(1.0, 0.1)),
        critic=ValueLoss(warm_up=50),
        constants=("alpha 0.05, clip 0.2 / 0.28, likelihood weight 0.1, 50 rollouts for the critic alone: the paper",),
        note="the critic's targets have lambda 1 (value_targets); likelihood: tokens with A > 0, in the paper right answers",
    ),
    "turn_ppo": Preset(
        title="PPO with turns as steps",
        paper="arXiv 1506.02438 on turns",
        credit=Then(credit=Gae(granularity="turn", gamma=0.99, lam=0.95), transforms=(Whiten(),)),
        objective=PPO,
        critic=ValueLoss(),
        constants=(PPO_CLIPS, "gamma 0.99, lambda 0.95: PPO's (arXiv 1707.06347, table 3)"),
    ),
    "vine_ppo": Preset(
        title="VinePPO",
        paper="arXiv 2410.01679",
        credit=Gae(granularity="turn", lam=0.0, monte_carlo=True),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=1e-4)),
        reference=FROZEN,
        constants=("K 9 rollouts for each state, beta 1e-4: the paper, as we understand it", PPO_CLIPS),
        note="value_rollouts=9 continuations from before each action; the environment must be restorable",
    ),
    "impala": Preset(
        title="V-trace actor-critic",
        paper="arXiv 1802.01561",
        credit=VTrace(),
        objective=PolicyGradient(granularity="none", trust_region=Unclipped(), entropy=0.001),
        critic=ValueLoss(),
        constants=("rho_max 1, c_max 1: the paper", "entropy 0.001 is ours"),
    ),
    "ragen": Preset(
        title="StarPO with bi-level GAE",
        paper="RAGEN, arXiv 2504.20073",
        credit=Then(credit=BiLevelGae(gamma_turn=0.95), transforms=(Whiten(),)),
        objective=STARPO,
        critic=ValueLoss(clip=0.5),
        constants=("gamma 0.95 between turns: official code", STARPO_CLIPS),
    ),
    "starpo_s": Preset(
        title="StarPO-S",
        paper="RAGEN, arXiv 2504.20073",
        credit=Then(credit=Gae(lam=1.0), transforms=(Whiten(),)),
        objective=STARPO,
        filters=(TopVariance(share=0.25),),
        critic=ValueLoss(clip=0.5),
        constants=("keeps the most varied 25 % of groups, gamma 1, lambda 1: official code", STARPO_CLIPS),
    ),
    "starpo_grpo": Preset(
        title="StarPO with group advantages",
        paper="RAGEN, arXiv 2504.20073",
        credit=grpo(),
        objective=STARPO,
        filters=(TopVariance(share=0.25),),
        constants=("keeps the most varied 25 % of groups, clip 0.2 / 0.28, entropy 0.001: official code",),
    ),
}
