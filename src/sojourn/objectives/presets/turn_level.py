"""Algorithms for many turns and for trees, without a critic, and those that shape the advantage of each token."""

from __future__ import annotations

from sojourn.credit import (
    MTGRPO,
    Distillation,
    EntropyBonus,
    GiGPO,
    InformationGain,
    LeafRelative,
    ProcessRewards,
    StepRelative,
    Then,
    TreePO,
    TreeRPO,
    Whiten,
    grpo,
)
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import DAPO_CLIPS, FROZEN, HIGHER, MEAN_ONLY, PPO_CLIP, PPO_CLIPS, REINFORCE, SEQUENCES
from sojourn.objectives.presets.preset import Preset

PPO = PolicyGradient(trust_region=PPO_CLIP)

TURN_LEVEL: dict[str, Preset] = {
    "gigpo": Preset(
        title="GiGPO",
        paper="arXiv 2505.10978",
        credit=GiGPO(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.01), aggregation=SEQUENCES),
        reference=FROZEN,
        constants=("gamma 0.95, omega 1, beta 0.01: official scripts", PPO_CLIPS),
        note="an invalid action costs 0.1, paid by the environment",
    ),
    "mt_grpo": Preset(
        title="MT-GRPO",
        paper="arXiv 2505.11821",
        credit=MTGRPO(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.01)),
        reference=FROZEN,
        constants=("kappa 1, beta 0.01: official code", PPO_CLIPS),
    ),
    "grpo_process": Preset(
        title="GRPO with process supervision",
        paper="arXiv 2402.03300",
        credit=ProcessRewards(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.04), aggregation=SEQUENCES),
        reference=FROZEN,
        constants=("beta 0.04: DeepSeekMath, sec. 4.2", PPO_CLIPS),
        note="the last action gets the outcome on top, normalised by itself; the paper has the step rewards alone",
    ),
    "igpo": Preset(
        title="IGPO",
        paper="arXiv 2510.14967",
        credit=InformationGain(credit=ProcessRewards(turn_terms=("information",))),
        objective=PPO,
        constants=(PPO_CLIPS,),
        note="the right answer is task.data['answer']; the learner scores it in the place of every action.  The paper's form has "
        "measure='probability' and pooled=True",
    ),
    "magrpo": Preset(
        title="MAGRPO",
        paper="arXiv 2508.04652",
        credit=StepRelative(bucket="turn", normaliser=MEAN_ONLY),
        objective=REINFORCE,
        constants=("gamma 1 is ours; official runs: 0.9",),
        note="all agents share the joint reward; compared are a group's actions at one turn, in the paper the siblings of one node",
    ),
    "step_reinforce": Preset(
        title="REINFORCE on discounted step returns",
        paper="as in ROLL",
        credit=StepRelative(bucket="batch", gamma=0.95),
        objective=PPO,
        constants=("gamma 0.95: GiGPO's", PPO_CLIPS),
    ),
    "arpo": Preset(
        title="ARPO, soft",
        paper="arXiv 2507.19849",
        credit=LeafRelative(shared="soft"),
        objective=PPO,
        program="branches",
        constants=(PPO_CLIPS,),
        note="a shared action has one place in the denominator, in the paper one for each leaf",
    ),
    "arpo_hard": Preset(
        title="ARPO, hard",
        paper="arXiv 2507.19849",
        credit=LeafRelative(shared="hard"),
        objective=PPO,
        program="branches",
        constants=(PPO_CLIPS,),
    ),
    "tree_rpo": Preset(
        title="TreeRPO",
        paper="arXiv 2506.05183",
        credit=TreeRPO(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.001), aggregation=SEQUENCES),
        reference=FROZEN,
        program="tree",
        constants=(PPO_CLIPS, "beta 0.001 is ours"),
    ),
    "tree_po": Preset(
        title="TreePO",
        paper="arXiv 2508.17445",
        credit=Then(credit=TreePO(), transforms=(Whiten(centre=False),)),
        objective=PPO,
        program="tree",
        constants=(PPO_CLIPS,),
    ),
    "entropy_advantage": Preset(
        title="Entropy-shaped advantages",
        paper="arXiv 2506.14758",
        credit=Then(credit=grpo(), transforms=(EntropyBonus(),)),
        objective=PolicyGradient(trust_region=HIGHER),
        constants=("alpha 0.4, kappa 2: the paper, as we understand it", DAPO_CLIPS),
        note="columns.entropy_T holds the entropies",
    ),
    "distillation": Preset(
        title="On-policy distillation",
        paper="arXiv 2306.13649",
        credit=Distillation(),
        objective=REINFORCE,
        reference=FROZEN,
        note="the teacher is named by --teacher",
    ),
}
