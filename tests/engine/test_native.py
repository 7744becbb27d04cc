"""The kernels in C against their definitions in float64, at sizes that divide nothing."""

from __future__ import annotations

import subprocess

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from sojourn.engine import native
from sojourn.engine.native import Kernels

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
sizes = st.integers(1, 37)


@pytest.fixture(scope="module", autouse=True)
def with_and_without_kernels() -> None:
    """These are the kernels: once is enough."""


def kernels(dtype: torch.dtype) -> Kernels:
    found = native.kernels(dtype)
    return found or pytest.skip("no C compiler here")


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: Tensor, expected: Tensor) -> None:
    """To the last place or two of the precision."""
    step = torch.finfo(found.dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=2 * step, atol=20 * torch.finfo(torch.float32).eps)


@BOTH
@given(rows=sizes, width=sizes)
@settings(deadline=None, max_examples=25)
def test_norm(dtype: torch.dtype, rows: int, width: int) -> None:
    x, weight = numbers(rows, width, dtype=dtype), numbers(width, dtype=dtype, seed=1)
    wide = x.double()
    close(kernels(dtype).norm(x, weight, 1e-5), wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double())


@BOTH
@given(rows=sizes, width=sizes)
@settings(deadline=None, max_examples=25)
def test_gate(dtype: torch.dtype, rows: int, width: int) -> None:
    one, other = (30 * numbers(rows, 2 * width, dtype=dtype)).chunk(2, -1)
    close(kernels(dtype).gate(one, other), one.double() * one.double().sigmoid() * other.double())


def test_the_gate_shuts_and_opens_at_the_ends() -> None:
    x, ones = torch.tensor([[-1e6, -200.0, 200.0, 1e6]]), torch.ones(1, 4)
    own = kernels(torch.float32)
    torch.testing.assert_close(own.gate(x, ones), torch.tensor([[0.0, 0.0, 200.0, 1e6]]), atol=1e-30, rtol=1e-6)
    for found, expected in zip(own.gate_back(x, ones, ones), ([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 200.0, 1e6]]), strict=True):
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-30, rtol=1e-6)


@BOTH
@given(rows=st.integers(1, 150), width=st.integers(4, 37))
@settings(deadline=None, max_examples=25)
def test_backwards_through_norm_and_gate(dtype: torch.dtype, rows: int, width: int) -> None:
    x, other, d_out = numbers(3, rows, width, dtype=dtype)
    weight = numbers(width, dtype=dtype, seed=1)
    wide, more, scale = (each.double().requires_grad_() for each in (x, other, weight))
    normed = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale
    for found, expected in (
        (kernels(dtype).norm_back(x, weight, d_out, 1e-5), torch.autograd.grad(normed, (wide, scale), d_out.double())),
        (kernels(dtype).gate_back(x, other, d_out), torch.autograd.grad(silu(wide) * more, (wide, more), d_out.double())),
    ):
        for ours, exact in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


@BOTH
@given(rows=sizes, heads=st.integers(1, 5), half=st.integers(1, 19))
@settings(deadline=None, max_examples=25)
def test_rotate_turns_pairs_and_nothing_beside_them(dtype: torch.dtype, rows: int, heads: int, half: int) -> None:
    x, angle = numbers(rows, heads + 2, 2 * half, dtype=dtype), numbers(rows, half, dtype=torch.float32)
    cosine, sine = (torch.cat([part, part], -1).to(dtype) for part in (angle.cos(), angle.sin()))
    low, high = x[:, :heads].double().chunk(2, -1)
    c, s = cosine[:, None, :half].double(), sine[:, None, :half].double()
    turned = x.clone()
    kernels(dtype).rotate(turned[:, :heads], cosine, sine)
    close(turned[:, :heads], torch.cat([low * c - high * s, high * c + low * s], -1))
    assert torch.equal(turned[:, heads:], x[:, heads:])


@BOTH
@given(rows=sizes, columns=st.integers(1, 130), width=sizes, added=st.tuples(st.booleans(), st.booleans()))
@settings(deadline=None, max_examples=40)
def test_multiply(dtype: torch.dtype, rows: int, columns: int, width: int, added: tuple[bool, bool]) -> None:
    width *= 4 // dtype.itemsize  # pairs
    own, x, weight = kernels(dtype), numbers(rows, width, dtype=dtype), numbers(columns, width, dtype=dtype, seed=1)
    if not own.packs(weight):
        pytest.skip("no such instructions here")
    bias, other = (
        numbers(*shape, dtype=dtype, seed=2) if is_there else None
        for shape, is_there in zip([(columns,), (rows, columns)], added, strict=True)
    )
    found = own.multiply(x, own.pack(weight), columns, bias, other)
    expected = x.double() @ weight.double().T + sum(each.double() for each in (bias, other) if each is not None)
    torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)


@BOTH
def test_a_row_of_a_product_does_not_depend_on_the_others(dtype: torch.dtype) -> None:
    own, x, weight = kernels(dtype), numbers(19, 64, dtype=dtype), numbers(100, 64, dtype=dtype, seed=1)
    if not own.packs(weight):
        pytest.skip("no such instructions here")
    panels, bias, other = own.pack(weight), numbers(100, dtype=dtype, seed=2), numbers(19, 100, dtype=dtype, seed=3)
    together = own.multiply(x, panels, 100, bias, other)
    for rows in (slice(0, 1), slice(3, 8), slice(7, 19)):
        assert torch.equal(own.multiply(x[rows], panels, 100, bias, other[rows]), together[rows])


@BOTH
def test_store_writes_each_row_at_its_place(dtype: torch.dtype) -> None:
    cache, new = numbers(4, 2, 7, 6, dtype=dtype), numbers(3, 5, 6, dtype=dtype, seed=1)[:, :2].transpose(0, 1)
    slot, at = torch.tensor([3, 0, 3]), torch.tensor([6, 2, 0])
    expected = cache.clone()
    expected[slot, :, at] = new.transpose(0, 1)
    kernels(dtype).store(new, cache, slot, at)
    assert torch.equal(cache, expected)


@BOTH
@given(
    data=st.data(),
    rows=st.integers(1, 6),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    dim=sizes | st.sampled_from([64, 100, 128, 256]),
)
@settings(deadline=None, max_examples=40)
def test_attend(dtype: torch.dtype, data: st.DataObject, rows: int, kv_heads: int, group: int, dim: int) -> None:
    slots, capacity = 5, 80
    query, (keys, values) = (
        numbers(rows, kv_heads, group, dim, dtype=dtype),
        numbers(2, slots, kv_heads, capacity, dim, dtype=dtype),
    )
    ranges = [sorted(data.draw(st.lists(st.integers(0, capacity), min_size=2, max_size=2))) for _ in range(rows)]
    slot = torch.tensor(data.draw(st.lists(st.integers(0, slots - 1), min_size=rows, max_size=rows)))
    start, stop = torch.tensor(ranges).unbind(1)
    out, lse = kernels(dtype).attend(query, keys, values, slot, start.contiguous(), stop.contiguous(), 0.3)
    for row, (first, last) in enumerate(ranges):
        k, v = (each[slot[row], :, first:last].double() for each in (keys, values))
        scores = 0.3 * query[row].double() @ k.transpose(-1, -2)
        close(out[row], scores.softmax(-1) @ v if last > first else torch.zeros(kv_heads, group, dim).double())
        torch.testing.assert_close(lse[row].double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-5)


@BOTH
@given(
    rows=st.integers(1, 9),
    length=st.integers(1, 80),
    kv_heads=st.integers(1, 3),
    group=st.sampled_from([1, 3, 9, 16]),
    dim=sizes | st.sampled_from([64, 128]),
)
@settings(deadline=None, max_examples=40)
def test_shared_keys_join_a_row_s_own(dtype: torch.dtype, rows: int, length: int, kv_heads: int, group: int, dim: int) -> None:
    query, own = numbers(rows, kv_heads, group, dim, dtype=dtype), numbers(2, rows, kv_heads, 10, dim, dtype=dtype, seed=1)
    shared = numbers(2, kv_heads, length, dim, dtype=dtype, seed=2)
    start, stop, flat = torch.zeros(rows, dtype=torch.long), torch.full((rows,), 10), torch.arange(0, rows, 2)
    found = kernels(dtype).attend(query, *own, torch.arange(rows), start, stop, 0.3)
    before = [each.clone() for each in found]
    kernels(dtype).attend_shared(query, *shared, flat, *found, 0.3)
    for row in range(rows):
        if row % 2:
            assert torch.equal(found[0][row], before[0][row]) and torch.equal(found[1][row], before[1][row])
            continue
        k, v = torch.cat([own[:, row], shared], 2).double()
        scores = 0.3 * query[row].double() @ k.transpose(-1, -2)
        rounded_twice = max(4 * torch.finfo(dtype).eps, 40 * torch.finfo(torch.float32).eps)
        torch.testing.assert_close(found[0][row].double(), scores.softmax(-1) @ v, rtol=0, atol=rounded_twice)
        torch.testing.assert_close(found[1][row].double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-5)


@BOTH
def test_a_row_s_bits_do_not_depend_on_its_companions(dtype: torch.dtype) -> None:
    query, (keys, values) = numbers(9, 2, 3, 16, dtype=dtype), numbers(2, 9, 2, 50, 16, dtype=dtype)
    slot, start, stop = torch.arange(9), torch.zeros(9, dtype=torch.long), torch.arange(40, 49)
    run = kernels(dtype)
    together, alone = run.attend(query, keys, values, slot, start, stop, 0.3), range(4, 5)
    out, lse = run.attend(query[alone], keys, values, slot[4:5], start[4:5], stop[4:5], 0.3)
    assert torch.equal(together[0][4:5], out) and torch.equal(together[1][4:5], lse)
    run.attend_shared(query, keys[0], values[0], slot, *together, 0.3)
    run.attend_shared(query[alone], keys[0], values[0], slot[:1], out, lse, 0.3)
    assert torch.equal(together[0][4:5], out) and torch.equal(together[1][4:5], lse)
    x, weight = numbers(9, 33, dtype=dtype), numbers(33, dtype=dtype, seed=1)
    assert torch.equal(run.norm(x, weight, 1e-5)[4:5], run.norm(x[4:5], weight, 1e-5))


@pytest.mark.parametrize("lacking", ["a compiler", "one that compiles"])
def test_without_a_compiler_there_are_none(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **how: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    if lacking == "a compiler":
        monkeypatch.setattr(native.shutil, "which", lambda name: None)
    else:
        monkeypatch.setattr(native.shutil, "which", lambda name: "/usr/bin/another-cc")
        monkeypatch.setattr(native.subprocess, "run", fails)
    assert native.kernels.__wrapped__(torch.float32) is None


def test_they_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOJOURN_NATIVE", "0")
    assert native.kernels.__wrapped__(torch.float32) is None
