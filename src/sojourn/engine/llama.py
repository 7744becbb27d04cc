"""Llama-shaped models in few, large operations, for the engine's forward passes on a CPU.

A decoding step of a small model spends most of its time between the matrix products.  Here a layer is two norms, four products
(queries, keys and values in one; gate and up in one; the residual added on the way out), the rotation and the attention.  Adapters add
two thin products to each (`engine.adapters`).  Other models run as `transformers` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu
from transformers import PreTrainedModel

from sojourn.engine.adapters import Mix, adapted_layers, computed, plain
from sojourn.engine.attention import Plan
from sojourn.engine.linear import Product, packs
from sojourn.engine.native import kernels

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Those whose layers are what `FusedModel` computes."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's products, and its attention as `transformers` has it."""

    attention: Any
    norms: tuple[Any, Any]
    queries_keys_values: Product
    out: Product
    gate_up: Product
    down: Product
    window: int | None


class FusedModel:
    """`model`, if `FusedModel.runs(model)`, with the weights that it has at the first pass; see `LocalEngine`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        config = model.config.get_text_config()
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._kernels = kernels(model.dtype)
        self._layers: list[_Layer] = []

    @staticmethod
    def runs(model: PreTrainedModel) -> bool:
        """Whether this model is of a kind that is computed here, all its linear layers plain ones on this CPU, perhaps with
        adapters."""
        config = model.config.get_text_config()
        if config.model_type not in MODEL_TYPES or config.hidden_act != "silu":
            return False
        named = [plain(module) for name, module in model.named_modules() if name.endswith("_proj")]
        named.append(model.get_output_embeddings())
        return all(map(packs, named)) and all(map(computed, adapted_layers(model)))

    def logits(
        self, plan: Plan, ids: Sequence[int], positions: Sequence[int], rows: Sequence[int], mix: Mix | None = None
    ) -> Tensor:
        """Logits (len(rows), V) of the flat tokens `rows`."""
        if not self._layers:
            self._pack()
        base: Any = self._model.base_model
        x: Tensor = base.embed_tokens(torch.tensor(ids))
        cos, sin = (part[0] for part in base.rotary_emb(x[None], torch.tensor([list(positions)])))
        if not self._kernels:  # as `_turned` adds it
            half = sin.shape[-1] // 2
            sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        for number, layer in enumerate(self._layers):
            x = self._layer(number, layer, x, plan, cos, sin, mix)
        return self._head(self._normed(base.norm, x[list(rows)]))

    def _layer(self, number: int, layer: _Layer, x: Tensor, plan: Plan, cos: Tensor, sin: Tensor, mix: Mix | None) -> Tensor:
        heads, kv_heads, dim = self._heads, self._kv_heads, cos.shape[-1]
        joined = layer.queries_keys_values(self._normed(layer.norms[0], x), mix).view(len(x), heads + 2 * kv_heads, dim)
        turned, value = joined[:, : heads + kv_heads], joined[:, heads + kv_heads :]
        if hasattr(layer.attention, "q_norm"):
            turned = torch.cat(
                [
                    self._normed(layer.attention.q_norm, turned[:, :heads]),
                    self._normed(layer.attention.k_norm, turned[:, heads:]),
                ],
                1,
            )
        turned = self._turned(turned, cos, sin)
        query, key = turned[:, :heads], turned[:, heads:]
        seen = plan.attend(
            number, query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), layer.attention.scaling, layer.window
        )
        x = layer.out.plus(seen.flatten(1), x, mix)
        return layer.down.plus(self._gated(layer.gate_up(self._normed(layer.norms[1], x), mix)), x, mix)

    def _normed(self, norm: Any, x: Tensor) -> Tensor:
        if self._kernels:
            return self._kernels.norm(x, norm.weight, norm.variance_epsilon)
        return rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (N, heads, d) by the angles of cos and sin (N, d), perhaps in place.  [RoPE, arXiv 2104.09864]"""
        if self._kernels:
            self._kernels.rotate(x, cos, sin)
            return x
        return torch.addcmul(x * cos[:, None], x.roll(cos.shape[-1] // 2, -1), sin[:, None])

    def _gated(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        if self._kernels:
            return self._kernels.gate(gate, up)
        return silu(gate).mul_(up)

    def _pack(self) -> None:
        for layer in self._model.base_model.layers:  # type: ignore[union-attr, unused-ignore]
            attention, mlp = layer.self_attn, layer.mlp
            self._layers.append(
                _Layer(
                    attention,
                    (layer.input_layernorm, layer.post_attention_layernorm),
                    Product(attention.q_proj, attention.k_proj, attention.v_proj),
                    Product(attention.o_proj),
                    Product(mlp.gate_proj, mlp.up_proj),
                    Product(mlp.down_proj),
                    window_of(attention),
                )
            )
        self._head = Product(self._model.get_output_embeddings())


def window_of(attention: Any) -> int | None:
    """The sliding window of a layer's attention, if it has one."""
    window: int | None = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
    return window
