"""Checks of objectives where the policy has not moved yet, and of the log-probabilities that they start from."""

from __future__ import annotations

from dataclasses import replace

import torch

from sojourn.conformance.adapter import Adapter, gradient
from sojourn.conformance.algorithms import CLIPPING, MUTING, RATIOS
from sojourn.conformance.batches import batch
from sojourn.conformance.layout_checks import TURNS, offered, own, same
from sojourn.conformance.loss_formulas import POLICY_GRADIENTS, reinforce
from sojourn.conformance.moved_rows import moved_rows
from sojourn.conformance.plain_rows import Numbers
from sojourn.conformance.rows import to_rows


def the_first_update_is_reinforce(adapter: Adapter) -> str:
    """The gradient of -sum w A log pi, w = 1/N, 1/(B |y|), 1/B or 1/(B L): whatever the trust region, the constant is 1; and w beta
    times the slope of the divergence from a reference that is another policy."""
    rows, over_of = moved_rows(0.0), {name: over for over, names in RATIOS.items() for name in names}
    numbers, asked = Numbers(rows), offered(adapter, own(over_of))
    for name, _ in asked:
        formula = replace(POLICY_GRADIENTS[name], slope=reinforce, over=over_of[name], weight=None)
        right, seen = torch.from_numpy(formula.gradient(numbers)), gradient(adapter, name, rows)
        kept = seen != 0 if name in MUTING else rows.mask
        assert kept.any(), f"{name}: no token is trained"
        same(torch.where(kept, right, 0.0), seen, name)
    return f"{len(asked)} policy gradients, each with its constant: 1/N, 1/(B |y|), 1/B or 1/(B L); off the reference"


def at_the_first_update_nothing_is_clipped(adapter: Adapter) -> str:
    rows, asked = moved_rows(0.0), [name for names in RATIOS.values() for name in names if name != "kl_cov"]
    names = [name for name, _ in offered(adapter, own(asked))]
    said = {name: adapter.reported(name, rows) for name in names}
    for name, reported in said.items():
        ratio, clipped = reported.get("ratio", 1.0), reported.get("clipped", 0.0)
        assert abs(ratio - 1) < 1e-12, f"{name}: the mean ratio is {ratio:.6g}"
        assert clipped == 0, f"{name}: {clipped:.1%} of the tokens are clipped"
    moved = to_rows(batch(TURNS, moved=3.0))
    blind = [name for name in CLIPPING if name in names and not adapter.reported(name, moved).get("clipped", 1.0)]
    assert not blind, f"{', '.join(blind)}: nothing is reported as clipped when the policy has moved far"
    ratios, clips = (sum(key in reported for reported in said.values()) for key in ("ratio", "clipped"))
    return f"{len(names)} policy gradients; {ratios} report ratios of 1, {clips} that no token is clipped"


def log_probabilities_are_of_the_sampled_distribution(adapter: Adapter) -> str:
    """Temperature, then the smallest set of mass top_p, over the legal tokens only; renormalised."""
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
    cases: tuple[tuple[float, float, list[int] | None], ...] = (
        (1.0, 1.0, None), (0.7, 1.0, None), (1.0, 0.6, None), (1.0, 1.0, [4, 2]), (0.7, 0.97, [0, 1, 3, 4]),
    )  # fmt: skip
    for temperature, top_p, legal in cases:
        mass = torch.zeros(5)
        allowed = list(range(5)) if legal is None else legal
        mass[allowed] = (logits[allowed] / temperature).exp()
        mass /= mass.sum()
        expected, reached = torch.zeros(5), 0.0
        for token in mass.argsort(descending=True).tolist():
            if reached < top_p - 1e-6:
                expected[token] = mass[token]
            reached += float(mass[token])
        expected /= expected.sum()
        seen = adapter.sampled_logprobs(logits, temperature=temperature, top_p=top_p, legal=legal).exp()
        gap = float((seen - expected).abs().max())
        where = f"temperature {temperature}, top-p {top_p}, legal {legal}"
        assert gap < 1e-6, f"{where}: probabilities differ by {gap:.3g}: {seen.tolist()} instead of {expected.tolist()}"
    return "temperature, top-p and legal tokens, alone and together"
