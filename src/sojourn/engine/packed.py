"""Linear layers in the weight layout of oneDNN, for the engine's forward passes on a CPU.

A decoding step multiplies a few rows with every weight of the model.  That is bound by memory, and oneDNN's own layout is read
faster than the plain one.  The learner keeps training the plain weights; the copies are made anew when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

ROWS = 32
"""Rows that the layout is made for; others work as well, a little slower."""


class PackedLinears:
    """All plain linear layers of `model`, if it is a float32 model on a CPU; otherwise the model runs as it is."""

    def __init__(self, model: nn.Module) -> None:
        fits = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        self._layers = [
            layer
            for layer in model.modules()
            if type(layer) is nn.Linear and fits and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
        ]
        self._forwards: list[Callable[[Tensor], Tensor]] = []

    def forget(self) -> None:
        """The weights have changed."""
        self._forwards = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The layers multiply with the copies in here."""
        if not self._forwards:
            self._forwards = [partial(_product, _pack(layer.weight.detach()), layer.bias) for layer in self._layers]
        for layer, forward in zip(self._layers, self._forwards, strict=True):
            layer.__dict__["forward"] = forward  # as `layer.forward = ...`, without what nn.Module does on top
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.__dict__["forward"]


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return packed


def _product(weight: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, bias, "none", [], "")
    return product
