"""Checks of objectives: the gradient of every loss, against finite differences or against its formula.

Where an objective holds a factor of log pi fixed, its gradient is no derivative of its value; then it is that factor, written out
here from the paper.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sojourn.conformance.adapter import Adapter, gradient
from sojourn.conformance.algorithms import LOSSES
from sojourn.conformance.batches import batch
from sojourn.conformance.layout_checks import TURNS, offered, own
from sojourn.conformance.rows import Rows, to_rows

STEP = 1e-6


def ratio(rows: Rows) -> Tensor:
    return (rows.logp - rows.old_logp).detach().exp()


def sequence_ratio(rows: Rows) -> Tensor:
    """Product over the row against the policy that sampled, shape (B, 1)."""
    return ((rows.logp - rows.behaviour_logp).detach() * rows.mask).sum(1, keepdim=True).exp()


def cispo(rows: Rows) -> Tensor:
    """clip(r, 0, 5) A / N.  [arXiv 2506.13585, eq. 4; range: ScaleRL]"""
    return ratio(rows).clamp(0, 5) * rows.advantage / rows.mask.sum()


def topr(rows: Rows) -> Tensor:
    """A / B, for A < 0 times clip(R, 0, 1).  [arXiv 2503.14286]"""
    taper = torch.where(rows.advantage < 0, sequence_ratio(rows).clamp(max=1), 1.0)
    return taper * rows.advantage / len(rows.mask)


def vespo(rows: Rows) -> Tensor:
    """R^k exp(lambda (1 - R)) A / N; (k, lambda) = (2, 3) for A > 0, else (3, 2)."""
    r, good = sequence_ratio(rows), rows.advantage > 0
    weight = torch.where(good, r**2 * (3 * (1 - r)).exp(), r**3 * (2 * (1 - r)).exp())
    return weight * rows.advantage / rows.mask.sum()


def dft(rows: Rows) -> Tensor:
    """pi / N.  [arXiv 2508.05629]"""
    return rows.logp.detach().exp() / rows.mask.sum()


def chord(rows: Rows) -> Tensor:
    """0.9 of PPO with clip 0.2, and 0.1 of the good tokens' likelihood, weighed by pi (1 - pi).  [arXiv 2508.11408]"""
    r, pi, good = ratio(rows), rows.logp.detach().exp(), rows.advantage > 0
    inside = torch.where(good, r < 1.2, r > 0.8)
    return (0.9 * inside * r * rows.advantage + 0.1 * good * pi * (1 - pi)) / rows.mask.sum()


def kto(rows: Rows) -> Tensor:
    """beta s(v) (1 - s(v)) / B, negative for A < 0; v = beta D - z0, z0 = max(0, beta mean D), beta 0.1.  [arXiv 2402.01306]"""
    gain = 0.1 * ((rows.logp - rows.ref_logp).detach() * rows.mask).sum(1, keepdim=True)
    s = torch.sigmoid(gain - gain.mean().clamp(min=0))
    return torch.where(rows.advantage > 0, 1.0, -1.0) * 0.1 * s * (1 - s) / len(rows.mask)


HELD: dict[str, Callable[[Rows], Tensor]] = {
    "cispo": cispo, "topr": topr, "vespo": vespo, "dft": dft, "chord": chord, "kto": kto,
}  # fmt: skip
"""Of objectives with a factor held fixed: minus the gradient of each token."""


def finite_differences(loss: Callable[[Tensor], Tensor], at: Tensor, where: Tensor) -> Tensor:
    """Central differences of a loss in float64, 0 where `where` is False."""
    result = torch.zeros_like(at)
    for place in map(tuple, torch.nonzero(where).tolist()):
        sides = []
        for step in (STEP, -STEP):
            moved = at.detach().clone()
            moved[place] += step
            sides.append(loss(moved).item())
        result[place] = (sides[0] - sides[1]) / (2 * STEP)
    return result


def autograd_agrees_with_finite_differences(adapter: Adapter) -> str:
    rows = to_rows(batch(TURNS, moved=0.3, stale=0.2), observations=1)
    asked = [name for name, _ in offered(adapter, own(LOSSES))]
    for name in asked:
        if name in HELD:
            expected = torch.where(rows.mask, -HELD[name](rows), 0.0)
        else:

            def loss(moved: Tensor, name: str = name) -> Tensor:
                return adapter.loss(name, Rows(**{**vars(rows), "logp": moved}), [[0, 1, 2, 3]])

            expected = finite_differences(loss, rows.logp, rows.mask)
        seen = gradient(adapter, name, rows)
        assert seen.any(), f"{name}: no gradient at all"
        gap = float((seen - expected).abs().max())
        assert gap < 1e-6, f"{name}: the gradient is off by {gap:.3g}"
    held = [name for name in asked if name in HELD]
    return f"{len(asked)} objectives in float64; by their formula where a factor is held fixed: {', '.join(held) or 'none'}"


def the_critic_descends_to_its_targets(adapter: Adapter) -> str:
    """1/2 mean (V - R)^2, or the larger of that and of the clipped V's.  [PPO, arXiv 2005.12729, sec. 3]"""
    table = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, -1.0, 0.5, 1.2], [0.1, 0.5, 0.4, 1.5]], dtype=torch.float64)
    old, target, value = table[0], table[1], table[2].requires_grad_()
    for clip in (None, 0.2):

        def critic(moved: Tensor, clip: float | None = clip) -> Tensor:
            return adapter.value_loss(moved, old, target, clip=clip)

        square = (value.detach() - target).square()
        if clip is not None:
            square = torch.maximum(square, (old + (value.detach() - old).clamp(-clip, clip) - target).square())
        loss = critic(value)
        (seen,) = torch.autograd.grad(loss, value)
        expected = finite_differences(critic, value, torch.ones(4, dtype=torch.bool))
        assert abs(loss.item() - square.mean().item() / 2) < 1e-12, f"clip {clip}: the loss is {loss.item():.6g}"
        assert float((seen - expected).abs().max()) < 1e-6, f"clip {clip}: the gradient is {seen.tolist()}"
    return "plain and clipped, value and gradient"
