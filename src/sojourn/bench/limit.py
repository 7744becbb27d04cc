"""What this machine can do: the bare matrix products and memory reads that a decoding step cannot do without."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sojourn.bench.measure import Side
from sojourn.engine.cache import Shape


def bare_products(model: PreTrainedModel, rows: int) -> tuple[Side, Side]:
    """The products of a decoding step of `rows` requests, and nothing else: with plain weights, and in oneDNN's layout."""
    weights = [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Linear)]
    inputs = {width: torch.randn(rows, width, dtype=model.dtype) for width in {weight.shape[1] for weight in weights}}
    ops = torch.ops.mkldnn
    packed = [(ops._reorder_linear_weight(weight, rows), weight.shape[1]) for weight in weights]

    def plain() -> None:
        for weight in weights:
            nn.functional.linear(inputs[weight.shape[1]], weight)

    def reordered() -> None:
        for weight, width in packed:
            ops._linear_pointwise(inputs[width], weight, None, "none", [], "")

    return plain, reordered


def cache_reads(model: PreTrainedModel, rows: int, length: int) -> Side:
    """Reading the keys and values of `rows` contexts of `length` tokens once."""
    shape = Shape.of(model)
    cache: Tensor = torch.ones(2 * shape.layers * rows * shape.kv_heads * shape.dim * length, dtype=shape.dtype)
    words = cache.view(torch.float32)  # which are added as fast as they are read
    return lambda: words.sum()
