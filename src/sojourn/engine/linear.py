"""Linear layers in a weight layout of their own, for the engine's forward passes on a CPU.

A decoding step multiplies a few rows with every weight of the model, and a layout that is read in order is faster than the plain one:
that of `kernels.c` where it has one for this processor, else oneDNN's.  The learner keeps training the plain weights; the copies are made
anew when they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sojourn.engine.adapters import MOST_MIXES, Mix, adapted_layers, factors, names, plain
from sojourn.engine.attention import Plan, using
from sojourn.engine.native import kernels

ROWS = 32
"""Rows that oneDNN's layout is made for; others work as well, a little slower."""


def packs(layer: nn.Module) -> bool:
    """Whether `layer` is a plain linear layer that oneDNN multiplies in its precision on this CPU."""
    if type(layer) is not nn.Linear or layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if layer.weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return layer.weight.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled)


class Packed:
    """The product with a weight (columns, width): x -> x W' + b."""

    __slots__ = ("bias", "columns", "kernels", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.columns, self.bias = len(weight), bias
        own = kernels(weight.dtype)
        self.kernels = own if own and own.packs(weight) else None
        self.weight: Tensor = self.kernels.pack(weight) if self.kernels else torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)

    def __call__(self, rows: Tensor) -> Tensor:
        if self.kernels:
            return self.kernels.multiply(rows, self.weight, self.columns, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows.contiguous(), self.weight, self.bias, "none", [], "")
        return product

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """The product and `other`, added in one pass."""
        if self.kernels:
            return self.kernels.multiply(rows, self.weight, self.columns, self.bias, other)
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, other, self.weight, self.bias, "add")
        return total


class Unpacked:
    """The same with the weight as it is, where `packs` says no."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, rows: Tensor) -> Tensor:
        return nn.functional.linear(rows, self.weight, self.bias)

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        return self(rows).add_(other)


class Product:
    """Layers one below the other as one product, and what their adapters add to it (`engine.adapters`)."""

    def __init__(self, *layers: nn.Module) -> None:
        bases = [plain(layer) for layer in layers]
        weights = [base.weight.detach() for base in bases]
        biases = [base.bias.detach() for base in bases if base.bias is not None]
        assert len(biases) in (0, len(layers)), "some of these layers have a bias"
        self._layers = layers
        self._kind = Packed if all(map(packs, bases)) else Unpacked
        self._base = self._kind(torch.cat(weights) if len(weights) > 1 else weights[0], torch.cat(biases) if biases else None)
        self._factors: dict[tuple[str, ...], tuple[Any, Any, tuple[int, ...]]] = {}

    def __call__(self, rows: Tensor, mix: Mix | None = None) -> Tensor:
        product = self._base(rows)
        return product if mix is None else self._adapted(rows, product, mix)

    def plus(self, rows: Tensor, other: Tensor, mix: Mix | None = None) -> Tensor:
        """The product and `other`, added in one pass."""
        total = self._base.plus(rows, other)
        return total if mix is None else self._adapted(rows, total, mix)

    def _adapted(self, rows: Tensor, total: Tensor, mix: Mix) -> Tensor:
        if mix.names not in self._factors:
            if len(self._factors) == MOST_MIXES:
                self._factors.clear()
            first, second, widths = factors(self._layers, mix.names)
            self._factors[mix.names] = (self._kind(first), self._kind(second), widths) if sum(widths) else (None, None, widths)
        first, second, widths = self._factors[mix.names]
        return second.plus(mix.own(first(rows), widths), total) if first else total


class PackedModel:
    """Any model as `transformers` runs it, with all plain linear layers packed as they are at the first pass; see `LocalEngine`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._layers: list[Any] = []
        self._products: list[Product] = []

    def logits(
        self, plan: Plan, ids: Sequence[int], positions: Sequence[int], rows: Sequence[int], mix: Mix | None = None
    ) -> Tensor:
        """Logits (len(rows), V) of the flat tokens `rows`."""
        with using(plan), self._installed(mix):
            output = self._model.base_model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                position_ids=torch.tensor([list(positions)], device=self._model.device),
                use_cache=False,
            )
            logits: Tensor = self._model.get_output_embeddings()(output.last_hidden_state[0, list(rows)])
        return logits

    @contextmanager
    def _installed(self, mix: Mix | None) -> Iterator[None]:
        """The layers multiply with the copies in here, those that have adapters with the adapters of `mix`."""
        if not self._products:
            self._layers = self._found()
            self._products = [Product(layer) for layer in self._layers]
        for layer, product in zip(self._layers, self._products, strict=True):
            forward = partial(_flat, product, mix) if plain(layer) is not layer else product
            layer.__dict__["forward"] = forward  # as `layer.forward = ...`, without what nn.Module does on top
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.__dict__["forward"]

    def _found(self) -> list[Any]:
        """Those with adapters, whole if all are of the kind that is computed here, and the plain ones."""
        adapted = adapted_layers(self._model) if names(self._model) else []
        inside = {id(part) for layer in adapted for part in layer.modules()}
        linear = [layer for layer in self._model.modules() if isinstance(layer, nn.Linear) and packs(layer)]
        return adapted + [layer for layer in linear if id(layer) not in inside]


def _flat(product: Product, mix: Mix | None, x: Tensor) -> Tensor:
    """The product of x (..., width), whose rows are the step's."""
    rows: Tensor = product(x.flatten(0, -2), mix).unflatten(0, x.shape[:-1])
    return rows
