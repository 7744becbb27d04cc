"""Published training runs built on GRPO: clip, filters, reference and corrections as a whole."""

from __future__ import annotations

from sojourn.credit import Band, Bounded, Overlong, ResampleOnCorrect, Then, ZeroSignal, dr_grpo, grpo
from sojourn.objectives.controllers import EntropyTarget, Reference
from sojourn.objectives.correction import NegativeSequenceMask
from sojourn.objectives.kl import Kl
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.parts import DAPO_CLIPS, FROZEN, HIGHER, PPO_CLIP, PPO_CLIPS, SEQUENCES
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.trust_region import Clip

SYSTEMS: dict[str, Preset] = {
    "r1": Preset(
        title="GRPO as in DeepSeek-R1",
        paper="arXiv 2501.12948",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Clip(low=10.0, high=10.0), kl=Kl(coefficient=0.001), aggregation=SEQUENCES),
        reference=Reference(kind="reset", every=400),
        constants=(
            "epsilon 10, beta 0.001: Nature version",
            "reference renewed every 400 optimizer steps: as we understand that version; it makes 16 of a rollout, so with minibatches=16 set "
            "every=25",
        ),
        note="epsilon 10 leaves no lower bound, since a ratio is never below 1 - 10; the KL term holds the policy",
    ),
    "dapo": Preset(
        title="DAPO",
        paper="arXiv 2503.14476",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER),
        filters=(ZeroSignal(),),
        constants=("clip 0.2 / 0.28, overlong buffer 4096 of 20480: sec. 4.1 of the paper", "at most 10 sampling rounds: verl"),
        note="refill the batch by sampling_rounds=10; add credit.shaping.overlong by Experiment.shaping.  1 / N counts the tokens of the batch; "
        "eq. 8 counts those of each group, which is Aggregation(over='prompts')",
    ),
    "overlong_masked": Preset(
        title="DAPO without cut answers",
        paper="arXiv 2503.14476",
        credit=Then(credit=grpo(), transforms=(Bounded(limit=5.0),)),
        objective=PolicyGradient(trust_region=HIGHER),
        filters=(Overlong(), ZeroSignal()),
        constants=(DAPO_CLIPS, "bound 5 on advantages is ours"),
    ),
    "prorl": Preset(
        title="ProRL",
        paper="arXiv 2505.24864",
        credit=grpo(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.4), kl=Kl(coefficient=0.001)),
        filters=(ZeroSignal(),),
        reference=Reference(kind="reset", every=400, new_optimizer=True),
        constants=("clip 0.2 / 0.4: sec. 3; the period of resets is not stated, 400 is ours", "beta 0.001 is ours"),
    ),
    "skywork_or1": Preset(
        title="Skywork-OR1",
        paper="arXiv 2505.22312",
        credit=grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, entropy=0.01),
        filters=(ZeroSignal(),),
        entropy_target=EntropyTarget(nats=0.2),
        constants=(
            PPO_CLIPS,
            "entropy 0.01: where the paper's coefficient starts",
            "target 0.2 nats: the paper, as we understand it",
        ),
    ),
    "memagent": Preset(
        title="Multi-conversation DAPO",
        paper="MemAgent, arXiv 2507.02259",
        credit=dr_grpo(),
        objective=PolicyGradient(trust_region=Clip(low=0.2, high=0.2, dual=3.0), kl=Kl(coefficient=0.001)),
        filters=(ZeroSignal(),),
        reference=FROZEN,
        program="notes",
        constants=("beta 1e-3, clip 0.2, dual clip 3: official scripts",),
    ),
    "grpo_roc": Preset(
        title="GRPO with resampling on correct",
        paper="rStar2-Agent, arXiv 2508.20722",
        credit=grpo(),
        objective=PolicyGradient(trust_region=HIGHER),
        filters=(ResampleOnCorrect(keep=16), ZeroSignal()),
        constants=("32 sampled, 16 kept: the paper", DAPO_CLIPS),
        note="successes and failures are kept in the group's own shares; the cleanest successes, as in the official code (the paper draws)",
    ),
    "r_zero": Preset(
        title="R-Zero solver",
        paper="arXiv 2508.05004",
        credit=grpo(),
        objective=PolicyGradient(trust_region=PPO_CLIP, kl=Kl(coefficient=0.01), aggregation=SEQUENCES),
        filters=(Band(low=0.3, high=0.8),),
        reference=FROZEN,
        constants=("band 0.3 to 0.8, beta 0.01: official code", PPO_CLIPS),
    ),
    "deepseek_v32": Preset(
        title="GRPO as in DeepSeek-V3.2",
        paper="DeepSeek-V3.2, arXiv 2512.02556",
        credit=dr_grpo(),
        objective=PolicyGradient(
            trust_region=PPO_CLIP,
            corrections=(NegativeSequenceMask(),),
            kl=Kl(coefficient=0.001, unbiased=True),
            aggregation=SEQUENCES,
        ),
        reference=FROZEN,
        constants=("delta 0.5: TRL's text; beta 0.001: R1's; the report gives neither", PPO_CLIPS),
    ),
}
