"""AdamW on float32 master weights.  [Loshchilov and Hutter, arXiv 1711.05101]

A bfloat16 model cannot hold small updates, so the optimizer keeps its own float32 copy of such weights and rounds after each step.
A copy that began where the weights are would have to move half the distance to the next number before rounding shows any of it, and in
a short run nearly none gets there.  So each copy begins at a random place among the numbers that round to its weight: of weights that
should move by a tenth of the distance, a tenth then move by all of it.  [dither: Schuchman 1964]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from sojourn.core import Range, check

Memory = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How weights move."""

    learning_rate: Annotated[float, Range(0)] = 2e-5
    """Step size.  Raise it for faster and less stable learning."""
    betas: tuple[Memory, Memory] = (0.9, 0.95)
    """Memory of the gradient's mean and square; short for reinforcement learning, whose target moves."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Pull towards zero."""
    max_grad_norm: Annotated[float, Range(0, above=True)] = 1.0
    """A longer gradient is scaled down to this length."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps over which the learning rate rises from 0."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls after the warm-up."""
    decay_steps: Annotated[int, Range(0)] = 0
    """Steps over which it falls; then it stays.  It does not follow the run's steps, so that a run that is extended is a longer run."""
    final_rate: Annotated[float, Range(0, 1)] = 0.0
    """What is left of it in the end, as a share of `learning_rate`."""

    def __post_init__(self) -> None:
        check(self)
        if (self.decay == "none") != (self.decay_steps == 0):
            raise ValueError(
                f"optimizer.decay is '{self.decay}' and decay_steps {self.decay_steps}: a decay needs both, the steps that it takes and its form"
            )

    def rate(self, step: int) -> float:
        """The learning rate of the optimizer step with this number, 1 for the first.

        >>> config = OptimizerConfig(learning_rate=1.0, warmup_steps=2, decay="linear", decay_steps=4)
        >>> [config.rate(step) for step in range(1, 8)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
        """
        risen = min(1.0, step / max(1, self.warmup_steps))
        done = min(1.0, max(0, step - self.warmup_steps) / max(1, self.decay_steps))
        left = {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.decay]
        return self.learning_rate * risen * (self.final_rate + (1 - self.final_rate) * left)


class AdamW:
    """The optimizer of one model's trainable parameters."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        random = torch.Generator().manual_seed(0)
        self._masters = [
            p if p.dtype == torch.float32 else _dithered(p.detach(), random).requires_grad_() for p in self.parameters
        ]
        self._adam = torch.optim.AdamW(
            self._masters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.steps = 0

    def step(self) -> float:
        """Apply and clear the gradients; returns their norm before clipping.  Raises `FloatingPointError` if that is no finite number;
        then the weights are as they were."""
        for parameter, master in zip(self.parameters, self._masters, strict=True):
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self._masters, self.config.max_grad_norm)
        if not torch.isfinite(norm):
            self._adam.zero_grad()
            raise FloatingPointError(
                f"optimizer step {self.steps + 1}: the norm of the gradient is {float(norm)}; the weights are as before it (look for rewards "
                "that are not finite, or lower optimizer.learning_rate, and start again from the last checkpoint)"
            )
        self.steps += 1
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate
        self._adam.step()
        self._adam.zero_grad()
        self._round()
        return float(norm)

    def forget(self) -> None:
        """Begin again: no moments of earlier gradients."""
        self._adam.state.clear()

    @property
    def learning_rate(self) -> float:
        """Of the step with number `steps`."""
        return self.config.rate(self.steps)

    def state_dict(self) -> dict[str, Any]:
        masters: list[Tensor] = [m for p, m in zip(self.parameters, self._masters, strict=True) if m is not p]
        return {"adam": self._adam.state_dict(), "masters": masters, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state["adam"])
        self.steps = state["steps"]
        own = [m for p, m in zip(self.parameters, self._masters, strict=True) if m is not p]
        with torch.no_grad():
            for master, saved in zip(own, state["masters"], strict=True):
                master.copy_(saved)
        self._round()

    def _round(self) -> None:
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self._masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)


def _dithered(weight: Tensor, random: torch.Generator) -> Tensor:
    """Float32 numbers that round to `weight`, uniform among those."""
    gap = (weight.float() - torch.nextafter(weight, torch.zeros_like(weight)).float()).abs()
    noise = torch.rand(weight.shape, generator=random).to(weight.device) - 0.5
    return weight.float() + 0.998 * gap * noise  # at half the distance, rounding goes to the even one
