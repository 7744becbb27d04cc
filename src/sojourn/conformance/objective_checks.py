"""Checks of objectives: layout, micro-batches and ranks change nothing, and gradients are the right ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sojourn.conformance.adapter import Adapter, NotOffered, Rows, gradient, to_rows
from sojourn.conformance.batches import batch

LOSSES = (
    "grpo", "dr_grpo", "dapo", "gspo", "turn_gspo", "gmpo", "cispo", "sapo", "topr", "kimi", "vespo", "lite_ppo", "clip_cov", "kl_cov",
    "top_entropy", "tis", "icepop", "decoupled_ppo", "m2po", "dppo", "intellect2", "deepseek_v32", "reinforce", "rloo", "luspo",
)  # fmt: skip
SMOOTH = ("grpo", "dr_grpo", "dapo", "sapo", "kimi", "lite_ppo", "intellect2", "reinforce", "rloo", "sft")
TURNS = ((2, 1), (3,), (1, 1, 2), (4,))


def offered(adapter: Adapter, algorithms: Sequence[str]) -> list[str]:
    """Those of the algorithms that the adapter has.  Raises NotOffered if it has none."""
    reasons, kept = [], []
    for algorithm in algorithms:
        try:
            adapter.loss(algorithm, to_rows(batch(TURNS)), [[0, 1, 2, 3]])
            kept.append(algorithm)
        except NotOffered as reason:
            reasons.append(str(reason))
    if not kept:
        raise NotOffered(reasons[0])
    return kept


def _same(left: Tensor, right: Tensor, what: str) -> None:
    gap, size = float((left - right).abs().max()), float(left.abs().max())
    assert gap <= 1e-6 * max(size, 1e-3), f"{what}: gradients differ by {gap:.3g} (size {size:.3g})"


def observation_values_do_not_reach_gradients(adapter: Adapter) -> str:
    names, inputs = offered(adapter, LOSSES), batch(TURNS, moved=0.1, stale=0.1)
    for name in names:
        quiet, loud = (to_rows(inputs, observations=2, junk=junk) for junk in (0.0, -3.0))
        first, second = gradient(adapter, name, quiet), gradient(adapter, name, loud)
        assert not second[~loud.mask].any(), f"{name}: an observation or padding gets a gradient"
        _same(first, second, f"{name}, other values off the mask")
    return f"{len(names)} objectives, junk in log-probabilities, advantages and entropies off the mask"


def the_layout_does_not_matter(adapter: Adapter) -> str:
    names, inputs = offered(adapter, LOSSES), batch(TURNS, moved=0.1, stale=0.1)
    tight, wide = to_rows(inputs), to_rows(inputs, observations=3, padding=5)
    for name in names:
        _same(gradient(adapter, name, tight)[tight.mask], gradient(adapter, name, wide)[wide.mask], f"{name}, padded")
    return f"{len(names)} objectives, packed and padded rows"


def micro_batches_do_not_matter(adapter: Adapter) -> str:
    return _micro_batches(adapter, [[[0], [1], [2], [3]], [[3, 0], [2, 1]]])


def uneven_micro_batches_do_not_matter(adapter: Adapter) -> str:
    """As they come from filling micro-batches up to a number of tokens."""
    return _micro_batches(adapter, [[[0, 1, 2], [3]], [[2], [3, 1, 0]]])


def _micro_batches(adapter: Adapter, splits: Sequence[Sequence[Sequence[int]]]) -> str:
    names, rows = offered(adapter, LOSSES), to_rows(batch(TURNS, moved=0.1, stale=0.1), observations=1)
    wrong = []
    for name in names:
        whole = gradient(adapter, name, rows)
        gaps = [(gradient(adapter, name, rows, micro) - whole).abs().max() / whole.abs().max() for micro in splits]
        if max(gaps) > 1e-6:
            wrong.append(f"{name} by {max(gaps):.0%}")
    assert not wrong, f"the gradient changes with the micro-batches: {', '.join(wrong)} of its largest entry"
    return f"{len(names)} objectives, {' and '.join(str([len(micro) for micro in split]) for split in splits)} rows"


def the_first_update_is_reinforce(adapter: Adapter) -> str:
    """At the start of an update the policy is the old one: no ratio is clipped, whatever the trust region."""
    names = offered(adapter, [name for name in LOSSES if name not in ("clip_cov", "kl_cov", "top_entropy")])
    rows = to_rows(batch(TURNS))
    rows = Rows(**{**vars(rows), "ref_logp": rows.logp.detach()})
    for name in names:
        grad = gradient(adapter, name, rows)[rows.mask]
        factor = -grad / rows.advantage[rows.mask]
        row = torch.nonzero(rows.mask)[:, 0]
        assert (factor > 0).all(), f"{name}: a token is moved against its advantage"
        spread = max(float(factor[row == r].max() / factor[row == r].min()) for r in range(len(TURNS)))
        assert spread < 1 + 1e-6, f"{name}: tokens of one sequence weigh differently ({spread:.4g} to 1) at ratio 1"
    return f"{len(names)} objectives"


def autograd_agrees_with_finite_differences(adapter: Adapter) -> str:
    names, rows = offered(adapter, SMOOTH), to_rows(batch(TURNS, moved=0.05, stale=0.05), observations=1)
    for name in names:
        expected = torch.zeros_like(rows.logp)
        for r, t in torch.nonzero(rows.mask).tolist():
            sides = []
            for step in (1e-6, -1e-6):
                moved = rows.logp.detach().clone()
                moved[r, t] += step
                sides.append(adapter.loss(name, Rows(**{**vars(rows), "logp": moved}), [[0, 1, 2, 3]]).item())
            expected[r, t] = (sides[0] - sides[1]) / 2e-6
        gap = float((gradient(adapter, name, rows) - expected).abs().max())
        assert gap < 1e-6, f"{name}: autograd and finite differences differ by {gap:.3g}"
    return f"{len(names)} objectives without a stop-gradient, in float64"


def log_probabilities_are_of_the_sampled_distribution(adapter: Adapter) -> str:
    """Temperature, then the smallest set of mass top_p, over the legal tokens only; renormalised."""
    logits, legal = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0]), [0, 1, 3, 4]
    mass = torch.zeros(5)
    mass[legal] = (logits[legal] / 0.7).exp()
    mass /= mass.sum()
    kept = torch.tensor([True, True, False, True, False])  # .767 + .184 + .044 reach 0.97; the two likeliest do not
    expected = torch.where(kept, mass, 0.0) / mass[kept].sum()
    seen = adapter.sampled_logprobs(logits, temperature=0.7, top_p=0.97, legal=legal).exp()
    gap = float((seen - expected).abs().max())
    assert gap < 1e-6, f"probabilities differ by {gap:.3g}: {seen.tolist()} instead of {expected.tolist()}"
    return "temperature 0.7, top-p 0.97, 4 of 5 tokens legal"


def on_single_tokens_gspo_is_token_clipping(adapter: Adapter) -> str:
    inputs = batch([[1]] * 4, moved=1e-4)
    rows = to_rows(inputs)
    _same(gradient(adapter, "gspo", rows), gradient(adapter, "turn_gspo", rows), "answers of one token")
    ratio = (rows.logp - rows.old_logp).detach().exp()
    _same(gradient(adapter, "gspo", rows), -ratio * rows.advantage / 4, "against -r A / B")
    return "sequence, turn and token ratios coincide"


def without_staleness_the_decoupled_objective_is_ppo(adapter: Adapter) -> str:
    rows = to_rows(batch(TURNS, moved=0.1))
    _same(gradient(adapter, "decoupled_ppo", rows), gradient(adapter, "lite_ppo", rows), "same clip, behaviour = old")
    return "off-policy weight 1"
