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
    "sequences": ("grpo", "r1", "gspo", "turn_gspo", "gmpo", "sapo", "gigpo", "tree_rpo", "deepseek_v32", "ghpo"),
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
PREFERRING = ("dpo", "cdpo", "rpo", "ln_dpo", "step_dpo", "ipo", "simpo", "orpo", "lcpo", "beta_dpo", "skywork_r1v2")
"""Objectives of pairs."""
LOSSES = tuple(name for names in RATIOS.values() for name in names) + IMITATING + PREFERRING
"""Every objective."""

VARIANTS = {
    "returns_k1": "the return that follows each token, with 0.5 (log pi - log pi_ref) taken off each token's reward",
    "returns_k2": "the same with half its square",
    "returns_k3": "the same with exp(-l) - 1 + l, l = log pi - log pi_ref",
    "returns_abs": "the same with |l|",
    "igpo_probability": "igpo, gains as differences of probabilities",
    "discounted_returns": "the return that follows each token, discounted by 0.9 for each token",
    "weighted_sum": "half the advantage of dr_grpo and twice the return that follows",
    "positive_only": "dr_grpo, negative advantages set to 0",
    "awr_half": "awr with temperature 0.5",
    "product_tis": "lite_ppo, times the product of pi_old / pi_behaviour over the sequence, at most 2",
}
"""Algorithms that no paper names, but that share a formula with those that one does."""
OBJECTIVE_VARIANTS = ("awr_half", "product_tis")
"""Of these, those that are asked for their loss."""

FORMULAS = {
    "overlong": "DAPO's penalty of lengths, arXiv 2503.14476, eq. 13: length, limit, buffer",
    "length_exact": "L1-Exact, arXiv 2503.04697, eq. 1: length, target, correct, scale",
    "length_max": "L1-Max, eq. 2, with one unit for `scale` tokens on each side: length, budget, correct, scale",
    "shorter_better": "arXiv 2504.21370: length, correct, group, alpha, beta",
    "fewest_calls": "fewest tool calls of a right answer in each group, -1 for none: calls, correct, group",
    "tool_economy": "OTC-GRPO, arXiv 2504.14870: calls, fewest, smooth",
    "uncertainty": "R-Zero, arXiv 2508.05004: agreement, scale",
    "learnability": "Absolute Zero, arXiv 2505.03335: success, valid",
    "kl_coefficient": "the next one, arXiv 1909.08593, sec. 2.2: before, kl, target, samples, horizon",
    "entropy_coefficient": "the next one, Skywork-OR1, arXiv 2505.22312: before, entropy, target, step",
    "entropy_applied": "the one that is applied now: coefficient, entropy, target",
    "averaged_reference": "TR-DPO, arXiv 2404.09656: reference, policy, rate (the policy's share)",
    "proximal_logp": "AReaL's loglinear: logp, behaviour_logp, sampled, proximal, current (versions of weights)",
}
"""Small formulas by name: source, and the names of their arguments."""
