"""The language-model head of the engine: hidden states to logits, fast for the few rows of a decoding step.

A matrix product of a few rows with the vocabulary's matrix is bound by memory, and oneDNN reads its own weight layout twice as fast as
the plain one.  So on a CPU the head keeps a reordered copy of its weights, made anew when they change.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

ROWS = 32
"""Rows that the layout is made for; others work as well, a little slower."""


class Head:
    """Logits in float32 of hidden states (n, D), with the model's soft-capping of logits, if it has one."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._layer: nn.Linear = model.get_output_embeddings()
        self._softcap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        weight = self._layer.weight
        self._reorders = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        self._packed: Tensor | None = None

    def forget(self) -> None:
        """The weights have changed."""
        self._packed = None

    def __call__(self, hidden: Tensor) -> Tensor:
        logits = self._product(hidden).float()
        return logits.div_(self._softcap).tanh_().mul_(self._softcap) if self._softcap else logits

    def _product(self, hidden: Tensor) -> Tensor:
        if not self._reorders:
            plain: Tensor = self._layer(hidden)
            return plain
        ops = torch.ops.mkldnn
        if self._packed is None:
            self._packed = ops._reorder_linear_weight(self._layer.weight.detach(), ROWS)
        packed: Tensor = ops._linear_pointwise(hidden.contiguous(), self._packed, self._layer.bias, "none", [], "")
        return packed
