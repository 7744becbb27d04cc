"""The attention function that Hugging Face models call, and where it gets its plan from.

A model whose attention implementation is "sojourn" hands every layer's queries, keys and values to the current *plan*: the
engine's plan reads and writes the key/value store, the learner's plan follows the tree.  The model itself runs as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "sojourn"


class Plan(Protocol):
    """How the tokens of one forward pass see each other."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """query: (heads, N, d).  key, value: (kv_heads, N, d).  window: tokens that a sliding layer sees, itself included.
        Returns (N, heads, d)."""
        ...


_plan: Plan | None = None


@contextmanager
def using(plan: Plan) -> Iterator[None]:
    """Run forward passes under `plan`."""
    global _plan
    previous, _plan = _plan, plan
    try:
        yield
    finally:
        _plan = previous


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    assert _plan is not None, "a model attached to Sojourn runs under engine.attention.using(plan)"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx  # type: ignore[assignment]
    return _plan.attend(layer, query[0], key[0], value[0], scale, sliding_window).unsqueeze(0), None


AttentionInterface.register(NAME, _attention)


def attach(model: PreTrainedModel) -> None:
    """Make `model` use our attention; shared by engine and learner."""
    config = model.config.get_text_config()
    for name, harmless in (("attn_logit_softcapping", None), ("logit_scale", 1.0), ("logits_scaling", 1.0)):
        if getattr(config, name, harmless) != harmless:
            raise ValueError(f"model type '{config.model_type}' with {name} = {getattr(config, name)} is not supported")
    model.set_attn_implementation(NAME)
    model.eval()


def bias_of(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask, True where visible, as what is added to scores."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention with its log-normaliser, so that partial results can be merged.

    query: (B, kv_heads, Q, d); heads that share a key head lie along Q.  key, value: (B, kv_heads, L, d).
    bias: added to the scores, broadcastable to (B, 1, Q, L).
    Returns (B, kv_heads, Q, d) and the log of the softmax denominator, (B, kv_heads, Q).
    """
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
        return out, lse
    scores = (query @ key.transpose(-1, -2)).float() * scale
    scores = scores if bias is None else scores + bias
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Join attention over two disjoint sets of keys: outputs (..., d) weighted by their log-normalisers (...)."""
    lse = torch.logaddexp(one[1], other[1])
    weights = ((one[1] - lse).exp_().unsqueeze(-1).to(one[0].dtype), (other[1] - lse).exp_().unsqueeze(-1).to(one[0].dtype))
    return torch.addcmul(one[0] * weights[0], other[0], weights[1]), lse
