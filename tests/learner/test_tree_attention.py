"""Tree attention and the head equal their dense definitions, forward and backward."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sojourn.learner.attention as attention
import sojourn.learner.head as head
from sojourn.learner.attention import TreePlan
from sojourn.learner.batch import TreeBatch, Trie
from sojourn.learner.head import log_probabilities


def random_batch(parents: list[int]) -> TreeBatch:
    trie = Trie()
    for number, parent in enumerate(parents):
        trie.insert([number], max(parent % (number + 1), number - 3) - 1)
    order, position, end = trie.depth_first()
    empty = np.zeros(0, np.int64)
    return TreeBatch(order, position, end, empty, empty, empty, {})


def dense_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scale: float) -> Tensor:
    """The definition, in the inputs' precision: (N, heads, d)."""
    group = len(query) // len(key)
    scores = query @ key.repeat_interleave(group, 0).transpose(1, 2) * scale
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return (weights @ value.repeat_interleave(group, 0)).transpose(0, 1)


def gradients(out: Tensor, inputs: list[Tensor], upstream: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((out.double() * upstream).sum(), inputs))


@settings(max_examples=30)
@given(
    parents=st.lists(st.integers(0, 10**6), min_size=1, max_size=40),
    size=st.integers(1, 12),
    heads=st.sampled_from([(4, 2), (2, 2), (3, 1)]),
    window=st.sampled_from([None, 1, 3, 8]),
)
def test_tree_attention_is_dense_masked_attention(
    parents: list[int], size: int, heads: tuple[int, int], window: int | None
) -> None:
    batch = random_batch(parents)
    n = len(batch)
    draw = torch.Generator().manual_seed(n)
    shapes = [(heads[0], n, 6), (heads[1], n, 6), (heads[1], n, 6), (n, heads[0], 6)]
    *inputs, upstream = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    visible = batch.visible()
    if window is not None:
        visible &= batch.position[:, None] - batch.position[None] < window
    exact = [each.requires_grad_() for each in inputs]
    ours = [each.detach().float().requires_grad_() for each in inputs]
    expected = dense_attention(*exact, torch.from_numpy(visible), 0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "blocks", partial(attention.blocks, size=size))
        plan = TreePlan(batch, heads[0] // heads[1], [None, window], torch.float32)
    out = plan.attend(0, ours[0], ours[1], ours[2], 0.3, window)
    torch.testing.assert_close(out.double(), expected, atol=2e-5, rtol=1e-4)
    for got, wanted in zip(gradients(out, ours, upstream), gradients(expected, exact, upstream), strict=True):
        torch.testing.assert_close(got.double(), wanted, atol=5e-5, rtol=1e-3)


@pytest.mark.parametrize("window", [None, 20])
def test_tree_attention_in_bfloat16(window: int | None) -> None:
    """Sharp attention: the exponent of a score is off by what bfloat16 leaves of the score, if products and log-normalisers are
    rounded before they are subtracted.  Then errors would be near 3e-2."""
    batch = random_batch(list(range(150)))
    n, draw = len(batch), torch.Generator().manual_seed(0)
    shapes = [(4, n, 64), (2, n, 64), (2, n, 64), (n, 4, 64)]
    *inputs, upstream = [torch.randn(shape, generator=draw).bfloat16().double() for shape in shapes]
    inputs[0] *= 4
    visible = batch.visible()
    if window is not None:
        visible &= batch.position[:, None] - batch.position[None] < window
    exact = [each.requires_grad_() for each in inputs]
    ours = [each.detach().bfloat16().requires_grad_() for each in inputs]
    expected = dense_attention(*exact, torch.from_numpy(visible), 0.25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "blocks", partial(attention.blocks, size=40))
        plan = TreePlan(batch, 2, [None, window], torch.bfloat16)
    out = plan.attend(0, ours[0], ours[1], ours[2], 0.25, window)
    pairs = [(out, expected), *zip(gradients(out, ours, upstream), gradients(expected, exact, upstream), strict=True)]
    errors = [float((got.double() - wanted).norm() / wanted.norm()) for got, wanted in pairs]
    assert max(errors) < 1.2e-2, errors


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    places=st.integers(1, 12),
    chunk=st.integers(1, 6),
    tile=st.integers(1, 6),
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
    softcap=st.sampled_from([None, 5.0]),
    use=st.sampled_from(["logp", "entropy", "both"]),
)
def test_the_head_is_a_dense_softmax(
    seed: int, places: int, chunk: int, tile: int, temperature: float, softcap: float | None, use: str
) -> None:
    draw = np.random.default_rng(seed)
    entries = int(draw.integers(1, 20))
    place, target = torch.from_numpy(draw.integers(0, places, entries)), torch.from_numpy(draw.integers(0, 11, entries))
    exact = [torch.from_numpy(draw.normal(size=shape)).requires_grad_() for shape in ((places, 6), (11, 6))]
    ours = [each.detach().float().requires_grad_() for each in exact]
    upstream = torch.from_numpy(draw.normal(size=(2, entries)))
    logits = exact[0] @ exact[1].T
    logits = (torch.tanh(logits / softcap) * softcap if softcap else logits) / temperature
    log_p = logits.log_softmax(-1)
    expected = torch.stack([log_p[place, target], -(log_p.exp() * log_p).sum(-1)[place]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "CHUNK", chunk)
        patch.setattr(head, "TILE", tile)
        got = torch.stack(log_probabilities(*ours, place, target, temperature=temperature, softcap=softcap))
        kept = {"logp": [0], "entropy": [1], "both": [0, 1]}[use]
        got_gradients = gradients(got[kept], ours, upstream[kept])
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-4)
    for mine, wanted in zip(got_gradients, gradients(expected[kept], exact, upstream[kept]), strict=True):
        torch.testing.assert_close(mine.double(), wanted, atol=5e-5, rtol=1e-3)
