"""Several low-rank adapters on one model: a row of a batch has those of its own adapter, and all share one product with the base.

Adapters are `peft`'s LoRA layers, known by their attributes, so that a model without any does not load `peft`.  A step multiplies all
rows with the base's weight once, then all rows with the factors of all adapters at work laid side by side, and zeroes between the two
what is not a row's own.  [grouped low-rank products: Punica, arXiv 2310.18547; LoRA, arXiv 2106.09685]

Rows of "a", of "b" and of no adapter, both of rank 2, through the joined queries, keys and values (q, k, v):

    x A'          columns   q_a q_a k_a k_a v_a v_a | q_b q_b k_b k_b v_b v_b
    row of a                 .   .   .   .   .   .  |  0   0   0   0   0   0
    row of b                 0   0   0   0   0   0  |  .   .   .   .   .   .
    row of none              0   0   0   0   0   0  |  0   0   0   0   0   0
    then B', whose rows of q_a reach the columns of the queries alone, and so on; the scale is in B
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MOST_MIXES = 8
"""Sets of adapters at work whose factors a product keeps side by side."""


def adapted_layers(model: nn.Module) -> list[Any]:
    """The layers of `model` that have adapters beside their weight."""
    return [module for module in model.modules() if _adapted(module)]


def plain(layer: Any) -> Any:
    """`layer` without its adapters."""
    return layer.base_layer if _adapted(layer) else layer


def computed(layer: Any) -> bool:
    """Whether a layer with adapters is linear and has plain low-rank ones, beside its weight and not added to it."""
    special = (layer.merged, getattr(layer, "lora_variant", None), any(getattr(layer, "lora_bias", {}).values()))
    return type(layer.base_layer) is nn.Linear and not any(special)


def names(model: nn.Module) -> tuple[str, ...]:
    """The adapters of `model` that can be chosen row by row, in the order of their coming; none if it has any of another kind."""
    layers = adapted_layers(model)
    return tuple(dict.fromkeys(name for layer in layers for name in layer.lora_A)) if all(map(computed, layers)) else ()


def active(model: nn.Module) -> str:
    """The adapter that `model` runs with by itself; "" without one.  Raises `ValueError` for several."""
    found = {name for layer in adapted_layers(model) if not layer.disable_adapters for name in layer.active_adapters}
    if len(found) > 1:
        raise ValueError(
            f"the adapters {', '.join(sorted(found))} are active at once: activate one, or name the one that is meant"
        )
    return found.pop() if found else ""


@contextmanager
def activated(model: nn.Module, adapter: str | None) -> Iterator[None]:
    """`model` runs with this adapter alone in here, "" with none, None with those that are active anyway."""
    layers = [] if adapter is None else adapted_layers(model)
    before = [layer._active_adapter for layer in layers]
    for layer in layers:  # not `set_adapter`, which also changes what is trained
        layer._active_adapter = [adapter] if adapter else []
    try:
        yield
    finally:
        for layer, active_before in zip(layers, before, strict=True):
            layer._active_adapter = active_before


@contextmanager
def dropping(model: nn.Module, seed: int) -> Iterator[None]:
    """Adapters that have a dropout use it in here, as `seed` says."""
    drops = [drop for layer in adapted_layers(model) for drop in layer.lora_dropout.values() if isinstance(drop, nn.Dropout)]
    if not drops:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for drop in drops:
            drop.train()
        try:
            yield
        finally:
            for drop in drops:
                drop.eval()


def trained(model: nn.Module, adapter: str | None = None) -> dict[str, nn.Parameter]:
    """What is trained, by name: of one adapter, whose own name is left out, so that its weights fit any other of its rank; or all of
    the model that has a gradient."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad or adapter}
    if not adapter:
        return named
    return {name.removesuffix(f"{adapter}.weight") + "weight": p for name, p in named.items() if _of(name, adapter)}


def multiplied(layer: Any, x: Tensor, adapter: str) -> Tensor:
    """`layer` of x with this adapter, if it has it, with gradients."""
    out: Tensor = plain(layer)(x)
    if not _adapted(layer) or adapter not in layer.lora_A:
        return out
    down, up, drop = layer.lora_A[adapter], layer.lora_B[adapter], layer.lora_dropout[adapter]
    total: Tensor = out + up(down(drop(x.to(down.weight.dtype)))) * layer.scaling[adapter]
    return total.to(out.dtype)


class Mix:
    """Which adapter each row of one step has.  names: those at work.  Made by `mix`."""

    def __init__(self, names: Sequence[str], place: Tensor) -> None:
        self.names = tuple(names)
        self._place = place
        self._alike = len(names) == 1 and bool((place == 0).all())
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def own(self, low: Tensor, widths: tuple[int, ...]) -> Tensor:
        """low (N, sum of widths), `widths` columns of each name, with 0 in those that are not of the row's adapter."""
        if self._alike:
            return low
        if widths not in self._masks:
            owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
            self._masks[widths] = (self._place[:, None] != owner).to(low.device)
        return low.masked_fill_(self._masks[widths], 0.0)


def mix(number: Sequence[int], known: Sequence[str]) -> Mix | None:
    """The adapters of rows, by number: 1 is the first of `known`, 0 none.  None if no row has any.

    >>> found = mix([2, 0, 2], ["a", "b"])
    >>> found.names, found.own(torch.ones(3, 2), (2,)).tolist()
    (('b',), [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    """
    rows = torch.as_tensor(number)
    working = sorted(set(rows.tolist()) - {0})
    if not working:
        return None
    place = torch.full_like(rows, -1)
    for index, each in enumerate(working):
        place[rows == each] = index
    return Mix([known[each - 1] for each in working], place)


def factors(layers: Sequence[Any], chosen: Sequence[str]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Of the adapters `chosen` on layers that lie one below the other: A (R, width), B (columns, R) with the scale in it, and how many of
    the R are of each adapter."""
    columns = [plain(layer).weight.shape[0] for layer in layers]
    like = plain(layers[0]).weight.detach()
    first: list[Tensor] = [like.new_empty(0, like.shape[1])]
    second: list[Tensor] = [like.new_empty(sum(columns), 0)]
    widths = []
    for name in chosen:
        width = 0
        for index, layer in enumerate(layers):
            if _adapted(layer) and name in layer.lora_A:
                up = layer.lora_B[name].weight.detach() * layer.scaling[name]
                spread = like.new_zeros(sum(columns), up.shape[1])
                spread[sum(columns[:index]) : sum(columns[: index + 1])] = up
                first.append(layer.lora_A[name].weight.detach().to(like.dtype))
                second.append(spread)
                width += up.shape[1]
        widths.append(width)
    return torch.cat(first), torch.cat(second, 1), tuple(widths)


def _adapted(layer: nn.Module) -> bool:
    return hasattr(layer, "lora_A") and hasattr(layer, "base_layer")


def _of(name: str, adapter: str) -> bool:
    kind, _, rest = name.rpartition(".lora_")[2].partition(".")
    return ".lora_" in name and kind in ("A", "B") and rest == f"{adapter}.weight"
