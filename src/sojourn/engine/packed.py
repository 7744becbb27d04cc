"""Linear layers in a weight layout of their own, for the engine's forward passes on a CPU.

A decoding step multiplies a few rows with every weight of the model, and a layout that is read in order is faster than the plain one:
that of `kernels.c` where it has one for this processor, else oneDNN's.  The learner keeps training the plain weights; the copies are made
anew when they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

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
    """The layers one below the other as one product: x -> x W' + b."""

    __slots__ = ("bias", "columns", "kernels", "weight")

    def __init__(self, *layers: nn.Linear) -> None:
        weights = [layer.weight.detach() for layer in layers]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        assert len(biases) in (0, len(layers)), "some of these layers have a bias"
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.columns = len(weight)
        self.bias: Tensor | None = torch.cat(biases) if biases else None
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


class PackedModel:
    """Any model as `transformers` runs it, with all plain linear layers packed; see `LocalEngine`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._layers: Sequence[nn.Linear] = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and packs(layer)]
        self._products: list[Packed] = []

    def forget(self) -> None:
        """The weights have changed."""
        self._products = []

    def logits(self, plan: Plan, ids: Sequence[int], positions: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Logits (len(rows), V) of the flat tokens `rows`."""
        with using(plan), self._installed():
            output = self._model.base_model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                position_ids=torch.tensor([list(positions)], device=self._model.device),
                use_cache=False,
            )
            logits: Tensor = self._model.get_output_embeddings()(output.last_hidden_state[0, list(rows)])
        return logits

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """The layers multiply with the copies in here."""
        if not self._products:
            self._products = [Packed(layer) for layer in self._layers]
        for layer, product in zip(self._layers, self._products, strict=True):
            layer.__dict__["forward"] = product  # as `layer.forward = ...`, without what nn.Module does on top
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.__dict__["forward"]
