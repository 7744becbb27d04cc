"""Llama-shaped models with the kernels in C, for the learner's passes on a CPU.

Between two products of a layer, torch and `transformers` read and write each hidden state many times (for a norm alone: to float32,
square, mean, scale, back, weight).  Here it is once, forward and backward.  Adapters are plain products beside the others.  Other models,
and machines without a compiler, run as `transformers` has them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sojourn.engine.adapters import multiplied
from sojourn.engine.attention import Plan
from sojourn.engine.llama import FusedModel, window_of
from sojourn.engine.native import Kernels, kernels
from sojourn.learner.batch import TreeBatch


def kernels_for(model: PreTrainedModel) -> Kernels | None:
    """Those for `fused_states`, if it computes this model here."""
    return kernels(model.dtype) if FusedModel.runs(model) else None


def fused_states(model: PreTrainedModel, batch: TreeBatch, plan: Plan, own: Kernels, adapter: str = "") -> Tensor:
    """The last hidden states (N, D) of all tokens of a batch, with one of the model's adapters or none."""
    base: Any = model.base_model
    x: Tensor = base.embed_tokens(torch.from_numpy(batch.token))
    cos, sin = (part[0] for part in base.rotary_emb(x[None], torch.from_numpy(batch.position)[None]))
    for number, layer in enumerate(base.layers):
        attention, mlp = layer.self_attn, layer.mlp
        normed = _normed(layer.input_layernorm, x, own)
        query, key, value = (multiplied(each, normed, adapter) for each in (attention.q_proj, attention.k_proj, attention.v_proj))
        if hasattr(attention, "q_norm"):
            query, key = (
                _normed(norm, part.unflatten(-1, (-1, cos.shape[-1])), own).flatten(1)
                for norm, part in ((attention.q_norm, query), (attention.k_norm, key))
            )
        query, key = _Rotate.apply(query, cos, sin, own), _Rotate.apply(key, cos, sin, own)
        query, key, value = (part.unflatten(-1, (-1, cos.shape[-1])).transpose(0, 1) for part in (query, key, value))
        seen = plan.attend(number, query, key, value, attention.scaling, window_of(attention))
        x = x + multiplied(attention.o_proj, seen.flatten(1), adapter)
        normed = _normed(layer.post_attention_layernorm, x, own)
        gate, up = (multiplied(each, normed, adapter) for each in (mlp.gate_proj, mlp.up_proj))
        x = x + multiplied(mlp.down_proj, _Gate.apply(gate, up, own), adapter)
    return _normed(base.norm, x, own)


def _normed(norm: Any, x: Tensor, own: Kernels) -> Tensor:
    out: Tensor = _Norm.apply(x, norm.weight, norm.variance_epsilon, own)
    return out


class _Norm(torch.autograd.Function):
    """x (..., width) over the root of its mean square, times a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, own: Kernels) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps, ctx.own = eps, own
        return own.norm(x, weight, eps)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_x, d_weight = ctx.own.norm_back(x, weight, d_out.contiguous(), ctx.eps)
        return d_x, d_weight, None, None


class _Rotate(torch.autograd.Function):
    """All heads of x (N, heads * d), in place, by the angles of cos and sin (N, d).  [RoPE, arXiv 2104.09864]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, own: Kernels) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(cos, sin)
        ctx.own = own
        own.rotate(x.unflatten(-1, (-1, cos.shape[-1])), cos, sin)
        return x

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        d_x = d_out.clone(memory_format=torch.contiguous_format)
        ctx.own.rotate(d_x.unflatten(-1, (-1, cos.shape[-1])), cos, -sin)
        return d_x, None, None, None


class _Gate(torch.autograd.Function):
    """silu(x) * other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor, own: Kernels) -> Tensor:
        ctx.save_for_backward(x, other)
        ctx.own = own
        return own.gate(x, other)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.own.gate_back(*ctx.saved_tensors, d_out.contiguous()), None)
