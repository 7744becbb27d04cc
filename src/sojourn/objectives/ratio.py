"""The importance ratio pi / pi_old, and over what it is taken.

    token       r_t = exp(l_t),  l_t = log pi(t) - log pi_old(t)                      [PPO, arXiv 1707.06347, eq. 6]
    turn        s = exp(mean of l_t over the action span)                             [GSPO per turn]
    sequence    s = exp(mean of l_t over the sequence's action tokens)                [GSPO, arXiv 2507.18071, eq. 7]
    product     s = exp(sum of l_t over the sequence)                                 [RLOO, arXiv 2402.14740]
    none        1, with the gradient of log pi: right in a rollout's first update     [REINFORCE]

A ratio of many tokens is used in its token form sg[s] pi / sg[pi] (GSPO, eq. 14): the value is s, and each token's gradient
carries that token's own advantage.  With one advantage per sequence this is the gradient of s itself.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sojourn.objectives.inputs import LossInputs

Granularity = Literal["token", "turn", "sequence", "product", "none"]
Centre = Literal["old", "behaviour"]


def capped_exp(log: Tensor) -> Tensor:
    """exp(log), any shape, without overflow: beyond the largest exponent whose square still fits, the value stays and so does the slope.

    The cap is 40 nats in float32 (a ratio of 3e17) and 350 in float64: the gradient's norm squares what comes out.  It bounds nothing
    that an algorithm means, so log-ratios themselves are never clamped: Kimi's square, k1, k2 and |l| are right at any distance.

    >>> capped_exp(torch.tensor([0.0, 1000.0])).isfinite().all().item()
    True
    """
    cap = math.log(torch.finfo(log.dtype).max) / 2 - 4
    return (log - (log.detach() - cap).clamp(min=0)).exp()


def log_ratio(inputs: LossInputs, centre: Centre = "old") -> Tensor:
    """l_t against the policy at the start of the update, or against the one that sampled.  Shape (T,)."""
    base = inputs.old_logp if centre == "old" else inputs.behaviour_logp
    return inputs.logp - base.detach()


def segment_mean(value_T: Tensor, id_T: Tensor) -> Tensor:
    """Mean of `value_T` over the tokens with the same id, given back to each of them.  Shape (T,)."""
    return segment_sum(value_T, id_T) / segment_sum(torch.ones_like(value_T), id_T)


def segment_sum(value_T: Tensor, id_T: Tensor) -> Tensor:
    """Sum of `value_T` over the tokens with the same id, given back to each of them.  Shape (T,)."""
    inverse: Tensor = torch.unique(id_T, return_inverse=True)[1]
    return torch.zeros_like(value_T).index_add(0, inverse, value_T)[inverse]


def widen(log_ratio_T: Tensor, inputs: LossInputs, granularity: Granularity) -> Tensor:
    """The log-ratio at a granularity, differentiable through each token's own log-ratio.  Shape (T,)."""
    if granularity == "token":
        return log_ratio_T
    fixed = log_ratio_T.detach()
    if granularity == "product":
        pooled = segment_sum(fixed, inputs.sequence)
    else:
        pooled = segment_mean(fixed, inputs.turn if granularity == "turn" else inputs.sequence)
    return pooled + (log_ratio_T - fixed)


def proximal_logp(logp: Tensor, behaviour_logp: Tensor, *, sampled: Tensor, proximal: int, current: int) -> Tensor:
    """log pi_old interpolated between the policy that sampled and the current one, by weight versions; saves a forward pass.

    sampled: version of the weights that sampled each token, shape (T,).  [AReaL, "loglinear"]
    """
    share = (proximal - sampled) / (current - sampled).clamp(min=1)
    return behaviour_logp + share * (logp.detach() - behaviour_logp)
