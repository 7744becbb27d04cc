"""A request's tokens are its own business: they do not depend on who else is in the batch, what is stored, or who came first."""

from __future__ import annotations

import asyncio
from functools import cache

import numpy as np
import pytest
from helpers import ARCHITECTURES, assert_faithful, engine_for, prompt, sample_all, small, steps_later
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Ints
from sojourn.engine import Completion, SamplingParams
from sojourn.engine.local import LocalEngine

LOADED = small()
REQUESTS = [(prompt(30, seed=i // 2), SamplingParams(max_tokens=10, seed=i)) for i in range(6)]


@cache
def alone(deterministic: bool) -> list[Completion]:
    """Each request by an engine of its own."""
    return [sample_all(engine_for(small(), deterministic=deterministic), [request])[0] for request in REQUESTS]


def arriving(engine: LocalEngine, waits: list[int], order: list[int]) -> dict[int, Completion]:
    async def one(index: int, wait: int) -> Completion:
        await asyncio.sleep(0)
        await steps_later(engine, wait)
        return await engine.sample(*REQUESTS[index])

    async def everybody() -> list[Completion]:
        return list(await asyncio.gather(*(one(i, w) for i, w in zip(order, waits, strict=False))))

    return dict(zip(order, asyncio.run(everybody()), strict=False))


@pytest.fixture(scope="module", autouse=True)
def forget_those_alone(with_and_without_kernels: None) -> None:
    alone.cache_clear()


orders = st.permutations(range(6))
waits = st.lists(st.integers(0, 20), min_size=6, max_size=6)


@settings(max_examples=10)
@given(order=orders, waits=waits, slots=st.integers(1, 6))
def test_tokens_do_not_depend_on_companions(order: list[int], waits: list[int], slots: int) -> None:
    engine = engine_for(LOADED, max_batch=slots)
    for index, completion in arriving(engine, waits, order).items():
        assert completion.tokens.tolist() == alone(False)[index].tokens.tolist()
        np.testing.assert_allclose(completion.logprobs, alone(False)[index].logprobs, atol=2e-5)


@pytest.mark.parametrize("budget", [0, 100])
def test_evicted_prefixes_are_computed_again(budget: int) -> None:
    """Groups with long common prefixes, round after round: the tokens stay, and so does the memory."""
    engine, roomy = engine_for(LOADED, shared_tokens=budget), engine_for(LOADED)
    rounds = [[(prompt(80, seed=group), SamplingParams(max_tokens=4, seed=i)) for i in range(3)] for group in (0, 1, 2, 0, 1)]
    for requests in rounds:
        said, expected = sample_all(engine, requests), sample_all(roomy, requests)
        assert [c.tokens.tolist() for c in said] == [c.tokens.tolist() for c in expected]
        assert sum(map(len, engine._cache.segments)) <= max(budget, 80)
    assert sum(map(len, roomy._cache.segments)) > 200
    assert engine.computed_tokens > roomy.computed_tokens


def test_the_seed_makes_the_difference() -> None:
    tokens, params = prompt(30), [SamplingParams(max_tokens=10, seed=seed) for seed in (1, 1, 2)]
    one, same, other = sample_all(engine_for(LOADED), [(tokens, p) for p in params])
    assert one.tokens.tolist() == same.tokens.tolist() != other.tokens.tolist()


@settings(max_examples=5)
@given(order=orders, waits=waits, slots=st.integers(1, 6))
def test_in_deterministic_mode_every_bit_is_the_same(order: list[int], waits: list[int], slots: int) -> None:
    engine = engine_for(LOADED, max_batch=slots, deterministic=True)
    for index, completion in arriving(engine, waits, order).items():
        assert completion.tokens.tolist() == alone(True)[index].tokens.tolist()
        assert completion.logprobs.tobytes() == alone(True)[index].logprobs.tobytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_deterministic_mode_is_faithful_too_and_reuses_what_is_stored(architecture: str) -> None:
    engine, reference = engine_for(small(architecture), deterministic=True, max_context=101), small(architecture)
    params = SamplingParams(max_tokens=9, seed=3)
    context: Ints = prompt(41)
    for turn in range(3):
        (completion,) = sample_all(engine, [(context, params)])
        assert_faithful(reference, context, completion, params)
        fresh = sample_all(engine_for(small(architecture), deterministic=True), [(context, params)])[0]
        assert completion.logprobs.tobytes() == fresh.logprobs.tobytes()
        context = np.concatenate([context, completion.tokens, prompt(7, seed=turn)])
