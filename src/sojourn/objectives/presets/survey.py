"""The rest of the survey's table of algorithms: those that need a proposer of tasks, a judge of steps, or a program beside their tuple.

Each has the part that is a credit, a loss or a filter; its note says what the recipe brings.
"""

from __future__ import annotations

from sojourn.credit import (
    ByEntropy,
    EarlyCalls,
    Extremes,
    Gae,
    GatedTurns,
    HardGroups,
    KlInReward,
    Then,
    Whiten,
    ZeroSignal,
    grpo,
)
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.kl import Kl
from sojourn.objectives.perception import Perception
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.preference import Orpo
from sojourn.objectives.preference_mixes import BetaDpo, Mpo
from sojourn.objectives.presets.parts import DAPO_CLIPS, FROZEN, HIGHER, PPO_CLIP, PPO_CLIPS, SEQUENCES
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.supervised import Mix

PPO = PolicyGradient(trust_region=PPO_CLIP)
GRPO_LOSS = PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.04), aggregation=SEQUENCES)
RLHF = KlInReward(credit=Then(credit=Gae(lam=0.95), transforms=(Whiten(),)), coefficient=0.05)
RLHF_CONSTANTS = (PPO_CLIPS, "lambda 0.95: PPO's (arXiv 1707.06347, table 3)", "beta 0.05, value clip 0.2: as in `ppo`")
GRPO_BETA = "beta 0.04: DeepSeekMath's; the digest gives none"

SURVEY: dict[str, Preset] = {
    "pf_ppo": Preset(
        title="PF-PPO",
        paper="arXiv 2409.06957",
        credit=RLHF,
        objective=PPO,
        filters=(Extremes(),),
        reference=FROZEN,
        critic=ValueLoss(clip=0.2),
        constants=RLHF_CONSTANTS,
        note="the best and the worst of each group; beside='random' and beside='none' are the paper's other two",
    ),
    "psgpo": Preset(
        title="PSGPO: PPO with a reward for each line",
        paper="arXiv 2410.17621",
        credit=RLHF,
        objective=PPO,
        reference=FROZEN,
        critic=ValueLoss(clip=0.2),
        constants=RLHF_CONSTANTS,
        note="the recipe brings a program that says one line of code at a time (stop at the newline) and a world that pays each line its judge's "
        "verdict, 0 for a comment; the paper labels lines by searching for the first from which no answer passes",
    ),
    "posterior_grpo": Preset(
        title="Posterior-GRPO",
        paper="arXiv 2508.05170",
        credit=GatedTurns(credit=grpo()),
        objective=GRPO_LOSS,
        reference=FROZEN,
        constants=(PPO_CLIPS, GRPO_BETA),
        note="the recipe brings a judge of thinking, paid on the action; in answers of one turn name its term: turn_terms=('thinking',)",
    ),
    "step_grpo": Preset(
        title="Step-GRPO",
        paper="R1-VL, arXiv 2503.12937",
        credit=grpo(),
        objective=GRPO_LOSS,
        reference=FROZEN,
        constants=(PPO_CLIPS, GRPO_BETA, "alpha 0.1 of matched key steps: the paper, as we understand it"),
        note="the reward is credit.shaping.key_steps plus a term of 1 for steps in a valid order; the world matches a task's key steps",
    ),
    "srpo": Preset(
        title="SRPO",
        paper="arXiv 2504.14286",
        credit=grpo(),
        objective=PPO,
        filters=(ZeroSignal(),),
        constants=(PPO_CLIPS,),
        note="history resampling is curriculum.Rounds(source, size=..., again=unsolved); mathematics first, then code, is two stages of a recipe",
    ),
    "greso": Preset(
        title="GRESO",
        paper="arXiv 2506.02177",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER),
        filters=(ZeroSignal(),),
        constants=(DAPO_CLIPS,),
        note="tasks are skipped before sampling by curriculum.Rounds(source, size=..., again=lively(0.5)); goes with any loss, here DAPO's",
    ),
    "ghpo": Preset(
        title="GHPO",
        paper="arXiv 2507.10628",
        credit=grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, aggregation=SEQUENCES),
        constants=(PPO_CLIPS, "right 1, format 0.5: the paper's reward"),
        note="tasks that nobody solved come again with a growing part of their solution: curriculum.Rounds(source, size=..., again=lambda seen: 1.0, "
        "hints=hinted()), and the world shows the share task.data['hint'] of it",
    ),
    "skywork_r1v2": Preset(
        title="Skywork-R1V2",
        paper="arXiv 2504.16656",
        credit=grpo(),
        objective=Mix(parts=(GRPO_LOSS, Mpo()), weights=(1.0, 1.0)),
        reference=FROZEN,
        constants=(
            PPO_CLIPS,
            GRPO_BETA,
            "0.8 preference, 0.2 quality, 1 likelihood: MPO's (arXiv 2411.10442)",
            "equal weights are ours",
        ),
        note="the selective sample buffer is --replay N",
    ),
    "aspo": Preset(
        title="ASPO: early tool calls",
        paper="arXiv 2508.19201",
        credit=Then(credit=grpo(), transforms=(EarlyCalls(),)),
        objective=PPO,
        constants=(PPO_CLIPS, "delta -2, k 0.7: the paper, as we understand it"),
        note="another ASPO (arXiv 2510.06062) turns ratios around and is not this one",
    ),
    "edge_grpo": Preset(
        title="EDGE-GRPO",
        paper="arXiv 2507.21848",
        credit=Then(credit=grpo(), transforms=(ByEntropy(),)),
        objective=PolicyGradient(trust_region=PPO_CLIP, aggregation=SEQUENCES),
        constants=(PPO_CLIPS, "floor 0.1 is ours"),
        note="guided error correction, right answers in place of some wrong ones, is the program's part (`session.say`, then `act`)",
    ),
    "dars": Preset(
        title="DARS",
        paper="arXiv 2508.13755",
        credit=Then(credit=grpo(), transforms=(HardGroups(),)),
        objective=PPO,
        constants=(PPO_CLIPS, "weights of at most 4: the paper's 32 rollouts for 8, as we understand it"),
        note="hard tasks weigh more instead of being sampled more; breadth is large groups=... with epochs above 1",
    ),
    "papo": Preset(
        title="PAPO",
        paper="arXiv 2507.06448",
        credit=grpo(),
        objective=Mix(parts=(PolicyGradient(trust_region=HIGHER), Perception()), weights=(1.0, 1.0)),
        filters=(ZeroSignal(),),
        constants=(DAPO_CLIPS, "gamma 0.01, eta 0.03: as we understand the paper"),
        note="of what the world says 0.6 of the tokens are blotted out, in place of patches of a picture; costs a second pass of each update",
    ),
    "beta_dpo": Preset(
        title="beta-DPO",
        paper="arXiv 2407.08639",
        credit=None,
        objective=BetaDpo(),
        reference=FROZEN,
        constants=("beta0 0.1: DPO's", "a 0.6, 80 % of the pairs: the paper, as we understand it"),
        note="pairs are the best and the worst of each group, sampled or stored; m0 stays where it is set, in the paper it follows the batches",
    ),
    "lcpo": Preset(
        title="LCPO: shorter right answers",
        paper="arXiv 2508.10164",
        credit=None,
        objective=Orpo(lam=1.0, compares="lengths"),
        constants=("both weights 1 are ours: likelihood and odds in balance, as we understand the paper",),
        note="pairs are the shortest and the longest right answer of each group; another LCPO (arXiv 2503.04697) is credit.shaping.length_exact",
    ),
}
