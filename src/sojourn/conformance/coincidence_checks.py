"""Checks of degenerate cases, in which algorithms coincide."""

from __future__ import annotations

import numpy as np
import torch

from sojourn.conformance.adapter import Adapter, NotOffered, gradient
from sojourn.conformance.algorithms import LENGTH
from sojourn.conformance.batches import batch
from sojourn.conformance.credit_checks import RETURNS, equal, evenly, scripts
from sojourn.conformance.credit_checks import offered as credited
from sojourn.conformance.layout_checks import OVERS, TURNS, offered, own, same
from sojourn.conformance.rows import Rows, to_rows
from sojourn.conformance.synthetic import Script, Turn, group

GRPO_LIKE = {"mt_grpo": ("grpo", 1.0), "grpo_process": ("grpo", 1.0), "arpo": ("grpo", 1.0), "arpo_hard": ("grpo", 1.0)}
CENTRED = {"rloo": ("dr_grpo", 4 / 3), "magrpo": ("dr_grpo", 1.0), "gpg": ("dr_grpo", 1.0), "opo": ("dr_grpo", 1.0)}
"""Credit that coincides with another, up to a factor, in one group of four equally long answers whose reward comes at the end."""
CORRECTED = {"decoupled_ppo": "lite_ppo", "tis": "dapo", "icepop": "dapo", "seq_mask_tis": "dapo"}
"""Objectives with an off-policy weight, and what they are without staleness."""


def gigpo_with_unique_states_is_dr_grpo(adapter: Adapter) -> str:
    played = [Script([Turn(2, anchor=(i, 0)), Turn(1, anchor=(i, 1))], final=final) for i, final in enumerate(RETURNS)]
    left, right = (adapter.advantages(name, [group(played)]) for name in ("gigpo", "dr_grpo"))
    assert (left == right).all(), f"advantages differ by {np.abs(left - right).max():.3g}"
    return "bit for bit, both with the mean alone"


def without_turn_rewards_and_forks_credit_is_of_groups(adapter: Adapter) -> str:
    pairs, made = GRPO_LIKE | CENTRED, [evenly(scripts())]
    names = [name for name in credited(adapter, pairs) if credited(adapter, [pairs[name][0]])]
    for name in names:
        other, factor = pairs[name]
        equal(adapter.advantages(name, made), factor * adapter.advantages(other, made), f"{name} and {other}", 1e-9)
    return f"{', '.join(names)} against GRPO or Dr. GRPO"


def on_turns_of_one_token_gae_of_turns_is_that_of_tokens(adapter: Adapter) -> str:
    """Chains of different lengths, one of them in a tree."""
    branches = [Script([Turn(1, reward=0.25)], final=1.0), Script([Turn(1), Turn(1)])]
    made = [group([Script([Turn(1)] * 4, final=0.75), Script([Turn(1, reward=0.5)], branches=branches)])]
    value = np.random.default_rng(0).normal(size=8)
    for gamma, lam in ((1.0, 0.95), (0.9, 0.8), (0.99, 0.0)):
        left = adapter.gae(made, granularity="turn", gamma=gamma, lam=lam, value=value, after=0.0)
        right = adapter.gae(made, granularity="token", gamma=gamma, lam=lam, value=value, after=0.0)
        assert left.any() and (left == right).all(), (
            f"gamma {gamma}, lambda {lam}: advantages differ by {np.abs(left - right).max():.3g}"
        )
    return "bit for bit, at three gammas and lambdas"


def on_policy_v_trace_is_monte_carlo_gae(adapter: Adapter) -> str:
    made = [group([Script([Turn(2, reward=0.5), Turn(3)], final=1.0), Script([Turn(1)])])]
    right = adapter.gae(made, granularity="token", gamma=1.0, lam=1.0, value=np.full(6, 0.25), after=0.0)
    equal(adapter.advantages("impala", made, value=0.25), right, "V-trace and GAE(1)", 1e-9)
    return "ratios 1, lambda 1"


def on_single_tokens_gspo_is_token_clipping(adapter: Adapter) -> str:
    """-min(r A, clip(r, 1 - 3e-4, 1 + 4e-4) A) / B, as PPO clips [arXiv 1707.06347, eq. 7] in GSPO's range; and where nothing is
    clipped by either, GRPO."""
    for moved in (1e-4, 1e-3):
        rows = to_rows(batch([[1]] * 8, moved=moved))
        logp, advantage = rows.logp.detach().clone().requires_grad_(), rows.advantage
        ratio = (logp - rows.old_logp).exp()
        (-torch.minimum(ratio * advantage, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantage).sum() / 8).backward()
        assert logp.grad is not None
        for name, _ in offered(adapter, own(("gspo", "turn_gspo"))):
            same(logp.grad, gradient(adapter, name, rows), f"{name}, ratios moved by about {moved:g}")
    near = to_rows(batch([[1]] * 8, moved=1e-4))
    near = Rows(**{**vars(near), "ref_logp": near.logp.detach()})
    same(gradient(adapter, "grpo", near), gradient(adapter, "gspo", near), "GRPO and GSPO")
    return "sequence, turn and token ratios coincide, with and without clipped ones"


def without_staleness_corrections_do_nothing(adapter: Adapter) -> str:
    rows, compared = to_rows(batch(TURNS, moved=0.1)), []
    for name, _ in offered(adapter, own(CORRECTED)):
        try:
            plain = gradient(adapter, CORRECTED[name], rows)
        except NotOffered:
            continue
        same(plain, gradient(adapter, name, rows), f"{name} and {CORRECTED[name]}")
        compared.append(f"{name} = {CORRECTED[name]}")
    return ", ".join(compared)


def on_equal_lengths_means_coincide(adapter: Adapter) -> str:
    """Sums over sequences and the constant length differ by their factor alone."""
    rows, factor = to_rows(batch([[3]] * 4, moved=0.1)), {"sequence_sums": 3.0, "constant": 3 / LENGTH}
    asked = offered(adapter, (("lite_ppo", over) for over in OVERS))
    mean = gradient(adapter, "lite_ppo", rows)
    for name, over in asked:
        assert over is not None
        same(factor.get(over, 1.0) * mean, gradient(adapter, name, rows, aggregation=over), over)
    return f"{len(asked)} aggregations of rows of 3 tokens"
