"""Which algorithms the checks ask about, and what their papers say that a check needs to know."""

from __future__ import annotations

from sojourn.objectives.aggregation import Over

GROUPED = (
    "grpo", "dr_grpo", "rloo", "lite_ppo", "reinforce_pp_baseline", "opo", "gpg", "maxrl", "passk_best", "gdpo", "otb", "gigpo",
    "mt_grpo", "grpo_process", "magrpo", "arpo", "arpo_hard", "tree_rpo", "tree_po",
)  # fmt: skip
"""Credit that compares the episodes of a group."""
WHITENED = ("reinforce_pp_baseline", "gdpo")
"""Of these, those that centre again over the batch, so that a group of one is 0 only in a batch of its own."""
VALUED = {"ppo_plain": 1.0, "starpo_s": 1.0, "impala": 1.0, "vine_ppo": 1.0, "turn_ppo": 0.99, "ragen": 0.95}
"""Credit that reads values, with its discount after an action."""
OVER_ACTIONS = ("gigpo", "tree_rpo", "tree_po")
"""Credit that discounts each action, or for which an action is a node: cutting one in two is another tree."""
SCALED = {
    "grpo": 1, "lite_ppo": 1, "reinforce_pp_baseline": 1, "gdpo": 1, "passk_best": 1, "mt_grpo": 1, "grpo_process": 1, "arpo": 1,
    "arpo_hard": 1, "tree_po": 1, "dr_grpo": 4, "rloo": 4, "opo": 4, "gpg": 4, "otb": 4, "magrpo": 4,
}  # fmt: skip
"""What four times the reward does to the advantages of credit that does not feel a shift."""

RATIOS: dict[Over, tuple[str, ...]] = {
    "tokens": (
        "lite_ppo", "dapo", "cispo", "kimi", "vespo", "tis", "icepop", "seq_mask_tis", "decoupled_ppo", "m2po", "dppo", "intellect2",
        "memagent", "prorl", "skywork_or1", "reinforce_pp_baseline", "ragen", "vine_ppo", "mt_grpo", "impala", "opo", "clip_cov",
        "kl_cov", "top_entropy",
    ),
    "sequences": ("grpo", "r1", "gspo", "turn_gspo", "gmpo", "sapo", "gigpo", "tree_rpo", "deepseek_v32"),
    "sequence_sums": ("reinforce", "luspo", "topr"),
    "constant": ("dr_grpo",),
}  # fmt: skip
"""Policy gradients, by what their mean runs over."""
LENGTH = 3000
"""L of "constant".  [Dr. GRPO, arXiv 2503.20783: the response budget]"""
CLIPPING = ("lite_ppo", "dapo", "gspo", "turn_gspo", "gmpo", "cispo", "grpo", "dr_grpo", "luspo")
"""Policy gradients that cut something when the policy has moved by some nats."""
MUTING = ("clip_cov", "top_entropy")
"""Policy gradients that leave some tokens out."""
IMITATING = ("sft", "rft", "awr", "dft", "chord", "vapo", "kto")
"""Objectives that also, or only, make likely what was said."""
PREFERRING = ("dpo", "cdpo", "rpo", "ln_dpo", "step_dpo", "ipo", "simpo", "orpo")
"""Objectives of pairs."""
LOSSES = tuple(name for names in RATIOS.values() for name in names) + IMITATING + PREFERRING
"""Every objective."""
