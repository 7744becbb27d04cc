"""What this machine can do: the bare matrix products and memory reads that a decoding step cannot do without."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sojourn.bench.measure import Side
from sojourn.engine.cache import Shape
from sojourn.engine.linear import Packed

PASSES = 10
"""Times that each is done at once; the mean counts."""


def bare_products(model: PreTrainedModel, rows: int) -> dict[str, Side]:
    """The products of a decoding step of `rows` requests, and nothing else: with plain weights, in oneDNN's layout, in the engine's."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    inputs = {width: torch.randn(rows, width, dtype=model.dtype) for width in {layer.in_features for layer in layers}}
    operands = [(inputs[layer.in_features], layer.weight.detach()) for layer in layers]
    ops = torch.ops.mkldnn
    onednn = [(x, ops._reorder_linear_weight(weight, rows)) for x, weight in operands]
    packed = [(x, Packed(weight)) for x, weight in operands]
    return {
        "plain": _pass_of(lambda: [nn.functional.linear(x, weight) for x, weight in operands]),
        "oneDNN": _pass_of(lambda: [ops._linear_pointwise(x, weight, None, "none", [], "") for x, weight in onednn]),
        "packed": _pass_of(lambda: [product(x) for x, product in packed]),
    }


def cache_reads(model: PreTrainedModel, rows: int, length: int) -> Side:
    """Reading the KV cache of `rows` contexts of `length` tokens once."""
    shape = Shape.of(model)
    cache: Tensor = torch.ones(2 * shape.layers * rows * shape.kv_heads * shape.dim * length, dtype=shape.dtype)
    words = cache.view(torch.float32)  # which are added as fast as they are read
    return _pass_of(lambda: words.sum())


def _pass_of(work: Callable[[], object]) -> Side:
    """Seconds of one of several passes: a decoding step has just had others before it, too."""

    def passes() -> float:
        work()
        began = time.perf_counter()
        for _ in range(PASSES):
            work()
        return (time.perf_counter() - began) / PASSES

    return passes
