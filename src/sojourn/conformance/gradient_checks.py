"""Checks of objectives: the gradient of every loss where policy, old policy, behaviour and reference all differ.

The answers are formulas from the papers in plain numpy (`loss_formulas`), of a batch that crosses every bound (`moved_rows`); nothing
is compared with itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sojourn.conformance.adapter import Adapter, gradient
from sojourn.conformance.algorithms import LENGTH, LOSSES, OBJECTIVE_VARIANTS
from sojourn.conformance.layout_checks import OVERS, offered, own
from sojourn.conformance.loss_formulas import POLICY_GRADIENTS, covariance, expected
from sojourn.conformance.moved_rows import moved_rows
from sojourn.conformance.plain_rows import Numbers, weights
from sojourn.conformance.rows import Rows
from sojourn.credit.columns import Floats

SCALES = (1.0, 0.1, 6e-3, 1e-3)
"""How far the policy has moved: past the bounds of single tokens, LUSPO's of sequences, GSPO's."""
AT_THE_START = {"kto": 0.0}
"""Its z0 is the divergence at the start of the update, or now: asked where they agree."""


def agree(seen: Floats, right: Floats, what: str) -> None:
    """Equal up to a millionth of the largest entry."""
    assert seen.any(), f"{what}: no gradient at all"
    gap, size = np.abs(seen - right), float(np.abs(right).max())
    row, place = np.unravel_index(int(gap.argmax()), gap.shape)
    assert gap.max() <= 1e-6 * size, (
        f"{what}: at token {place} of row {row} {seen[row, place]:.6g} instead of {right[row, place]:.6g}"
    )


def gradients_are_those_of_the_formulas(adapter: Adapter) -> str:
    """Policy gradients, likelihoods and preferences at four distances from where they sampled."""
    asked = [name for name, _ in offered(adapter, own((*LOSSES, *OBJECTIVE_VARIANTS)))]
    for name in asked:
        for scale in (AT_THE_START[name],) if name in AT_THE_START else SCALES:
            rows = moved_rows(scale)
            seen, right = gradient(adapter, name, rows).numpy(), expected(name, rows)
            where = f"{name}, moved by {scale:g}"
            agree(seen, muted(seen, right, rows, where) if name == "clip_cov" else right, where)
    return f"{len(asked)} objectives, off-policy and off the reference, at {len(SCALES)} distances"


def muted(seen: Floats, right: Floats, rows: Rows, what: str) -> Floats:
    """Without the one token that Clip-Cov mutes, if its covariance lies between 1 and 5 as it must."""
    gone = (seen == 0) & (right != 0)
    inside = covariance(Numbers(rows))[gone]
    assert len(inside) <= 1 and ((inside > 1) & (inside < 5)).all(), f"{what}: muted are tokens of covariance {inside.tolist()}"
    return np.where(gone, 0.0, right)


def tokens_of_high_covariance_are_held(adapter: Adapter) -> str:
    """Advantages 1.9 higher, so that their mean of 1.73 counts.  KL-Cov holds the token of highest covariance, not of highest
    A (log pi - mean log pi); Clip-Cov mutes one of those between 1 and 5, where no clip holds a token."""
    names = [name for name, _ in offered(adapter, own(("kl_cov", "clip_cov")))]
    for name in names:
        rows = moved_rows(1e-3)
        rows = replace(rows, advantage=torch.where(rows.mask, rows.advantage + 1.9, 0.0))
        seen, right = gradient(adapter, name, rows).numpy(), expected(name, rows)
        if name == "clip_cov":
            count = int(((seen == 0) & rows.mask.numpy()).sum())
            assert count == 1, f"{name}: {count} tokens are muted instead of 1"
            right = muted(seen, right, rows, name)
        agree(seen, right, name)
    return " and ".join(names)


def entropies_are_raised(adapter: Adapter) -> str:
    """d loss / d H_t = -eta w_t; what has no bonus has no gradient there."""
    asked = [name for name, _ in offered(adapter, own(("skywork_or1", "ragen", "impala", "dapo")))]
    for name in asked:
        rows, formula = moved_rows(0.1), POLICY_GRADIENTS[name]
        rows.entropy.requires_grad_()
        (seen,) = torch.autograd.grad(adapter.loss(name, rows, [list(range(5))]), rows.entropy, allow_unused=True)
        right = -formula.entropy * weights(rows.mask.numpy(), formula.over, rows.prompt.numpy())
        given = np.zeros_like(right) if seen is None else seen.numpy()
        assert np.abs(given - right).max() < 1e-12, (
            f"{name}: the loss changes by {given.min():.3g} for a nat instead of {right.min():.3g}"
        )
    return ", ".join(asked)


def means_are_those_of_their_names(adapter: Adapter) -> str:
    """PPO's loss under each mean, of 5 rows of 3 to 5 tokens, 3 of one prompt and 2 of another."""
    asked, rows = offered(adapter, (("lite_ppo", over) for over in OVERS)), moved_rows()
    for _, over in asked:
        right = POLICY_GRADIENTS["lite_ppo"].gradient(Numbers(rows), over)
        agree(gradient(adapter, "lite_ppo", rows, aggregation=over).numpy(), right, f"mean over {over}")
    return f"{len(asked)} means, L = {LENGTH}"


def what_is_clipped_is_reported(adapter: Adapter) -> str:
    """The mean ratio, and of 20 tokens the share that is past 1.2 (1.28) with A > 0 or below 0.8 with A < 0:

    row 1: 1.25 1.35 1.65 1.79 (not 1.25 with 1.28);  row 2: 0.74 0.29;  row 3: 5.5 12.2;  row 4: 0.55;  row 5: 0.41 0.61 0.66
    """
    names, rows = [name for name, _ in offered(adapter, own(("lite_ppo", "dapo")))], moved_rows()
    mean = float(np.exp(Numbers(rows).l)[rows.mask.numpy()].mean())
    told = set()
    for name in names:
        right = {"ratio": mean, "clipped": {"lite_ppo": 12, "dapo": 11}[name] / 20}
        for what, number in adapter.reported(name, rows).items():
            assert abs(number - right[what]) < 1e-6, f"{name}: '{what}' is said to be {number:.6g}, it is {right[what]:.6g}"
            told.add(what)
    return f"{', '.join(names)}: {' and '.join(sorted(told)) or 'nothing'} is reported"


def the_critic_descends_to_its_targets(adapter: Adapter) -> str:
    """1/2 mean (V - R)^2 / scale^2, or the larger of that and of the clipped V's.  [PPO, arXiv 2005.12729, sec. 3]

    V 0.1 0.5 0.4 1.5,  R 1 -1 0.5 1.2:  V - R = -0.9 1.5 -0.1 0.3, squares 0.81 2.25 0.01 0.09, sum 3.16
    V old 0 0 1 1, clip 0.2: V becomes 0.1 0.2 0.8 1.2, squares 0.81 1.44 0.09 0; the larger: 0.81 2.25 0.09 0.09, sum 3.24,
    and the third has no gradient
    """
    table = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, -1.0, 0.5, 1.2], [0.1, 0.5, 0.4, 1.5]], dtype=torch.float64)
    old, target, value = table[0], table[1], table[2].requires_grad_()
    plain, held = [-0.225, 0.375, -0.025, 0.075], [-0.225, 0.375, 0.0, 0.075]
    for clip, scale, loss, slope in ((None, 1.0, 0.395, plain), (0.2, 1.0, 0.405, held), (0.2, 10.0, 0.00405, held)):
        seen = adapter.value_loss(value, old, target, clip=clip, **({} if scale == 1 else {"scale": scale}))
        (grad,) = torch.autograd.grad(seen, value)
        assert abs(seen.item() - loss) < 1e-12, f"clip {clip}, scale {scale:g}: the loss is {seen.item():.6g} instead of {loss:g}"
        gap = np.abs(grad.numpy() - np.array(slope) / scale**2).max()
        assert gap < 1e-12, f"clip {clip}, scale {scale:g}: the gradient is {grad.tolist()}"
    return "plain, clipped and scaled, value and gradient"
