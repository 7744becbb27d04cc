"""Algorithms that learn from stored episodes or pairs: preferences and supervision."""

from __future__ import annotations

from sojourn.credit import GroupRelative, Normaliser, dr_grpo, grpo
from sojourn.objectives.controllers import Reference
from sojourn.objectives.kto import Kto
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.preference import Dpo, Ipo, Orpo, SimPo
from sojourn.objectives.presets.parts import FROZEN, PPO_CLIP, PPO_CLIPS
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.supervised import AdvantageWeighted, Mix, Supervised

PLAIN = GroupRelative(normaliser=Normaliser(mean="none", deviation="none"))
DPO_BETA = "beta 0.1: DPO's (arXiv 2305.18290, app. B)"
PAIRS = "pairs are the best and the worst of each group, sampled or stored"

OFFLINE: dict[str, Preset] = {
    "sft": Preset(title="Supervised fine-tuning", paper="warm-up on an oracle's episodes", credit=None, objective=Supervised()),
    "rft": Preset(
        title="Rejection-sampling fine-tuning",
        paper="arXiv 2308.01825",
        credit=PLAIN,
        objective=Supervised(positive_only=True),
        note="repeated with fresh samples it is expert iteration (arXiv 1705.08439)",
    ),
    "filtered_bc": Preset(
        title="Filtered behaviour cloning",
        paper="cloning the better half of stored episodes",
        credit=dr_grpo(),
        objective=Supervised(positive_only=True),
    ),
    "awr": Preset(
        title="Advantage-weighted regression",
        paper="arXiv 1910.00177",
        credit=dr_grpo(),
        objective=AdvantageWeighted(beta=1.0, limit=20.0),
        constants=("beta 1, weights at most 20: official code",),
    ),
    "marwil": Preset(
        title="MARWIL",
        paper="Wang et al., NeurIPS 2018",
        credit=GroupRelative(normaliser=Normaliser(mean="batch", deviation="batch")),
        objective=AdvantageWeighted(beta=1.0, limit=20.0),
        constants=("beta 1, weights at most 20: AWR's",),
        note="the batch's deviation stands for the running one",
    ),
    "dft": Preset(title="DFT", paper="arXiv 2508.05629", credit=None, objective=Supervised(weight="probability")),
    "chord": Preset(
        title="CHORD",
        paper="arXiv 2508.11408",
        credit=grpo(),
        objective=Mix(
            parts=(PolicyGradient(trust_region=PPO_CLIP), Supervised(weight="uncertainty", positive_only=True)),
            weights=(0.9, 0.1),
        ),
        constants=("mu 0.1: valley of the official schedule", PPO_CLIPS),
        note="the supervised part reads the batch's successes; the paper's reads an expert's answers",
    ),
    "dpo": Preset(
        title="DPO",
        paper="arXiv 2305.18290",
        credit=None,
        objective=Dpo(),
        reference=FROZEN,
        constants=(DPO_BETA,),
        note=PAIRS,
    ),
    "cdpo": Preset(
        title="Conservative DPO",
        paper="Mitchell 2023",
        credit=None,
        objective=Dpo(smoothing=0.1),
        reference=FROZEN,
        constants=(DPO_BETA, "smoothing 0.1 is ours"),
        note=PAIRS,
    ),
    "rpo": Preset(
        title="Iterative RPO",
        paper="arXiv 2404.19733",
        credit=None,
        objective=Dpo(nll=1.0),
        reference=FROZEN,
        constants=("weight 1 of the likelihood: the paper", DPO_BETA),
        note=PAIRS,
    ),
    "step_dpo": Preset(
        title="Step-DPO",
        paper="arXiv 2406.18629",
        credit=None,
        objective=Dpo(beta=0.4, compares="actions"),
        reference=FROZEN,
        constants=("beta 0.4: the official scripts have 0.4 to 0.5, as we understand them",),
        note="pairs are of actions after the same prefix: a tree search, or answers to one prompt",
    ),
    "ln_dpo": Preset(
        title="Length-normalised DPO",
        paper="arXiv 2405.14734, app. I; Tulu 3, arXiv 2411.15124, sec. 4.3",
        credit=None,
        objective=Dpo(beta=2.0, by_length=True),
        reference=FROZEN,
        constants=("beta 2 is ours, of SimPO's size, since log-ratios are means",),
        note=PAIRS,
    ),
    "tr_dpo": Preset(
        title="TR-DPO",
        paper="arXiv 2404.09656",
        credit=None,
        objective=Dpo(),
        reference=Reference(kind="average", every=512, rate=0.6),
        constants=(
            "rate 0.6 every 512 optimizer steps: as in TRL, with one for each rollout",
            "beta 0.1 is DPO's; the paper's is 0.05, as quoted by TRL",
        ),
        note=PAIRS,
    ),
    "ipo": Preset(
        title="IPO",
        paper="arXiv 2310.12036",
        credit=None,
        objective=Ipo(),
        reference=FROZEN,
        constants=("beta 0.1: framework default",),
        note=PAIRS,
    ),
    "simpo": Preset(
        title="SimPO",
        paper="arXiv 2405.14734",
        credit=None,
        objective=SimPo(),
        constants=("beta 2.5, gamma 0.55 beta: the paper",),
        note=PAIRS,
    ),
    "orpo": Preset(
        title="ORPO", paper="arXiv 2403.07691", credit=None, objective=Orpo(), constants=("lambda 0.1: the paper",), note=PAIRS
    ),
    "kto": Preset(
        title="KTO",
        paper="arXiv 2402.01306",
        credit=PLAIN,
        objective=Kto(),
        reference=FROZEN,
        constants=("beta 0.1, both weights 1: framework default",),
        note="an episode is good if its return is positive, whatever its group did",
    ),
}
