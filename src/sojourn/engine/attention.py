"""The attention function that Hugging Face models call, and where it gets its plan from.

A model whose attention implementation is "sojourn" hands every layer's queries, keys and values to the current *plan*: the
engine's plan reads and writes the KV cache, the learner's plan follows the tree.  The model itself runs as it is.

What a model wants of its attention beyond that (a soft cap, a bias on positions, a mask of its own) would be lost without a word, and
engine and learner would agree on the wrong numbers.  So `attach` sends two tokens through the model and refuses by name what is not
computed here, and `plain` gives the model its own attention back for the comparison at start-up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from sojourn.engine.cache import Shape

NAME = "sojourn"
UNCHANGED = {"dropout": 0.0, "is_causal": True, "head_mask": None}
"""Arguments of attention with the value at which they change nothing; None changes nothing either."""
ELSEWHERE = {"position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states"}
"""Arguments that a plan does not need: positions are in the plan, and nothing else is asked of the model."""


class Plan(Protocol):
    """How the tokens of one forward pass see each other."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """query: (heads, N, d).  key, value: (kv_heads, N, d).  window: tokens that a sliding layer sees, itself included.
        sinks: (heads,), for each head the score of a key that every token sees and that has no value.
        Returns (N, heads, d)."""
        ...


class _Current(threading.local):
    """The plan of this thread: the engine's thread has one while the learner's has another."""

    plan: Plan | None = None


_current = _Current()


@contextmanager
def using(plan: Plan) -> Iterator[None]:
    """Run forward passes under `plan`."""
    previous, _current.plan = _current.plan, plan
    try:
        yield
    finally:
        _current.plan = previous


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    plan = _current.plan
    assert plan is not None, "a model attached to Sojourn runs under engine.attention.using(plan)"
    for name, given in {"attention_mask": attention_mask, **others}.items():
        if given is not None and name not in ELSEWHERE and not _changes_nothing(name, given):
            raise _refused(module.config, f"its attention takes {name} = {_short(given)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx  # type: ignore[assignment]
    return plan.attend(layer, query[0], key[0], value[0], scale, sliding_window, s_aux).unsqueeze(0), None


AttentionInterface.register(NAME, _attention)


def _changes_nothing(name: str, given: Any) -> bool:
    return name in UNCHANGED and not isinstance(given, Tensor) and bool(given == UNCHANGED[name])


def _short(given: Any) -> str:
    return f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else repr(given)


def _refused(config: Any, why: str) -> ValueError:
    return ValueError(
        f"model type '{config.model_type}' cannot be run faithfully: {why}, which Sojourn does not compute; choose a model of another type"
    )


def attach(model: PreTrainedModel) -> None:
    """Make `model` use our attention; shared by engine and learner.  Raises `ValueError` that names what is not computed here."""
    config = model.config.get_text_config()
    for name, harmless in (("attn_logit_softcapping", None), ("logit_scale", 1.0), ("logits_scaling", 1.0)):
        if getattr(config, name, harmless) != harmless:
            raise _refused(config, f"it has {name} = {getattr(config, name)}")
    for kind in getattr(config, "layer_types", None) or ():
        if kind not in ("full_attention", "sliding_attention"):
            raise _refused(config, f"it has layers of the type {kind}")
    model.eval()
    before = model.config._attn_implementation
    if before != NAME:
        model.set_attn_implementation(NAME)
        try:
            _try(model)
        except BaseException:
            model.set_attn_implementation(before)
            raise


def _try(model: PreTrainedModel) -> None:
    """Send two tokens through `model`, whose every layer must come to `_attention` once, with shapes and windows as its config says."""
    config = model.config.get_text_config()
    tried = _Tried([])
    with torch.no_grad(), using(tried):
        ids = torch.arange(2, device=model.device)[None]
        try:
            model.base_model(input_ids=ids, position_ids=ids, use_cache=False)
        except ValueError:
            raise
        except Exception as error:  # a model's code is foreign: it may raise anything
            raise ValueError(
                f"model type '{config.model_type}' cannot be run: two tokens sent through it end in {error!r}"
            ) from error
    layers = [layer for layer, *_ in tried.seen]
    if sorted(layers) != list(range(config.num_hidden_layers)):
        raise _refused(
            config, f"of its {config.num_hidden_layers} layers those that attend through transformers are {sorted(layers)}"
        )
    kept = Shape.of(model)
    for layer, dims, heads, window in tried.seen:
        if len(dims) > 1:
            raise _refused(config, f"layer {layer} has queries, keys and values of different sizes {sorted(dims)}")
        if (heads, *dims) != (kept.kv_heads, kept.dim):
            raise _refused(
                config,
                f"layer {layer} has {heads} heads of keys of size {max(dims)}, its config says {kept.kv_heads} of {kept.dim}",
            )
        if window not in windows_of(model):
            raise _refused(config, f"layer {layer} has a sliding window of {window} tokens that its config does not name")


class _Tried:
    """A plan that attends to nothing, and remembers which layer asked: its sizes of a head, its heads of keys, and its window."""

    def __init__(self, seen: list[tuple[int, set[int], int, int | None]]) -> None:
        self.seen = seen

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        self.seen.append((layer, {each.shape[-1] for each in (query, key, value)}, len(key), window))
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[-1])


@contextmanager
def plain(model: PreTrainedModel) -> Iterator[None]:
    """`model` with the eager attention that `transformers` ships for it, which knows nothing of ours."""
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)


def windows_of(model: PreTrainedModel) -> list[int | None]:
    """The sliding windows that the model's layers use; None stands for full attention."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]  # without them, all layers are alike
    window = getattr(config, "sliding_window", None)
    return [None] + ([window] if window and "sliding_attention" in kinds else [])


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


def sink(out: Tensor, lse: Tensor, sinks: Tensor) -> Tensor:
    """Attention `out` (..., d) with log-normalisers `lse` (...) after one more key without a value, whose score is `sinks`, broadcastable
    to (...): the softmax's denominator grows from exp(lse) to exp(lse) + exp(sink).  [gpt-oss, arXiv 2508.10925]"""
    return out * (lse - sinks.float()).sigmoid().unsqueeze(-1).to(out.dtype)
