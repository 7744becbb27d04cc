"""Each prefix is computed once, at every turn: counted tokens against the trie of the contexts, and the numbers that come out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import ARCHITECTURES, assert_faithful, engine_for, prompt, sample_all, small, steps_later
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Ints
from sojourn.engine import Completion, SamplingParams, admission
from sojourn.engine.cache import Segment
from sojourn.engine.local import LocalEngine

LOADED = small()


def params(seed: int, tokens: int = 5) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, seed=seed)


def answered(contexts: Sequence[Ints], answers: Sequence[Completion], heard: Sequence[Ints]) -> list[Ints]:
    """The contexts of the next turn."""
    return [np.concatenate([c, a.tokens, h]) for c, a, h in zip(contexts, answers, heard, strict=True)]


def prefixes(contexts: Sequence[Ints]) -> set[tuple[int, ...]]:
    """The trie of the contexts without their last tokens: what can be computed before anything is sampled."""
    return {tuple(c[: n + 1].tolist()) for c in contexts for n in range(len(c) - 1)}


def sampled(contexts: Sequence[Ints], answers: Sequence[Completion]) -> int:
    """What the answers themselves cost: the last token of each context and all sampled ones but the last, once for all that have said
    the same so far."""
    return len(
        {(c.tobytes(), a.tokens[:n].tobytes()) for c, a in zip(contexts, answers, strict=True) for n in range(len(a.tokens))}
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("first", [30, 80], ids=["in slots alone", "on a segment"])
def test_equal_second_turns_compute_what_is_new_once(architecture: str, first: int) -> None:
    """Sixteen siblings that said the same and heard the same 60 tokens."""
    engine, reference = engine_for(small(architecture), max_batch=16), small(architecture)
    contexts = [prompt(first)] * 16
    answers = sample_all(engine, [(c, params(seed=3)) for c in contexts])
    computed = engine.computed_tokens
    contexts = answered(contexts, answers, [prompt(60, seed=1)] * 16)
    replies = sample_all(engine, [(c, params(seed)) for seed, c in enumerate(contexts)])
    assert engine.computed_tokens - computed == 60 + sampled(contexts, replies)
    for seed, (context, reply) in enumerate(zip(contexts, replies, strict=True)):
        assert_faithful(reference, context, reply, params(seed))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("length", [20, 80], ids=["in slots alone", "on a segment"])
def test_siblings_are_one_row_until_they_say_different_things(architecture: str, length: int) -> None:
    """Twelve siblings, four seeds, at three temperatures: they part at their first token, later, or never."""
    engine, reference = engine_for(small(architecture), max_batch=12), small(architecture)
    contexts, asked = (
        [prompt(length)] * 12,
        [SamplingParams(max_tokens=3 + n, seed=n % 4, temperature=(1, 0.1, 0)[n // 4]) for n in range(12)],
    )
    answers = sample_all(engine, list(zip(contexts, asked, strict=True)))
    assert engine.computed_tokens == length - 1 + sampled(contexts, answers)
    assert len({answer.tokens.tobytes() for answer in answers}) > 4, "some part"
    assert sampled(contexts, answers) < sum(len(answer.tokens) for answer in answers) - 11, "some go on together"
    for context, answer, params_ in zip(contexts, answers, asked, strict=True):
        assert_faithful(reference, context, answer, params_)
    following = [(c, params(n)) for n, c in enumerate(answered(contexts, answers, [prompt(9, seed=1)] * 12))]
    for (context, params_), reply in zip(following, sample_all(engine, following), strict=True):
        assert_faithful(reference, context, reply, params_)


def test_siblings_on_one_slot_that_are_cancelled_or_late_leave_it_to_the_others() -> None:
    engine, reference = engine_for(LOADED, max_batch=4), small()

    async def some_leave() -> list[Completion]:
        asked = [asyncio.create_task(engine.sample(prompt(30), params(seed=3, tokens=9))) for _ in range(4)]
        await steps_later(engine, 3)
        for each in asked[::2]:
            each.cancel()
        return [await each for each in asked[1::2]]

    answers = asyncio.run(some_leave())
    for answer in answers:
        assert_faithful(reference, prompt(30), answer, params(seed=3, tokens=9))
    assert engine._cache.free == 4
    assert sample_all(engine, [(prompt(30), params(seed=3, tokens=9))])[0].tokens.tolist() == answers[0].tokens.tolist()


def test_sixty_four_equal_second_turns_cost_what_sixty_four_equal_fresh_contexts_do() -> None:
    engine, fresh = engine_for(LOADED), engine_for(LOADED)
    contexts = [prompt(40)] * 64
    answers = sample_all(engine, [(c, params(seed=3)) for c in contexts])
    computed = engine.computed_tokens
    contexts = answered(contexts, answers, [prompt(50, seed=1)] * 64)
    requests = [(c, params(seed)) for seed, c in enumerate(contexts)]
    later, anew = sample_all(engine, requests), sample_all(fresh, requests)
    stored = 40 + 5 - 1  # all but the answer's last token
    assert engine.computed_tokens - computed == fresh.computed_tokens - stored
    assert [r.tokens.tolist() for r in later] == [r.tokens.tolist() for r in anew]


choices = st.lists(st.integers(0, 2), min_size=6, max_size=6)
rounds = st.lists(st.tuples(choices, choices, st.lists(st.booleans(), min_size=6, max_size=6)), min_size=2, max_size=4)


@settings(max_examples=15)
@given(
    opening=choices, rounds=rounds, lengths=st.lists(st.sampled_from([1, 2, 7, 50]), min_size=3, max_size=3), once=st.booleans()
)
def test_each_prefix_is_computed_once_at_every_turn(
    opening: list[int], rounds: list[tuple[list[int], list[int], list[bool]]], lengths: list[int], once: bool
) -> None:
    """Six episodes that open with, say and hear one of three things, so that they part at any depth or never; in each round some act,
    the others' tools take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "COMPUTE_ONCE", 1 if once else 10**9)
        engine = engine_for(LOADED, max_batch=6)
        stored: set[tuple[int, ...]] = set()
        contexts = [np.concatenate([prompt(12), prompt(2 + lengths[o], seed=20 + o)]) for o in opening]
        for turn, (seeds, hears, acts) in enumerate(rounds):
            acting = [number for number in range(6) if acts[number]]
            before, asked = engine.computed_tokens, [contexts[number] for number in acting]
            answers = sample_all(engine, [(contexts[number], params(seeds[number])) for number in acting])
            cost = engine.computed_tokens - before
            needed = len(prefixes(asked) - stored) + sampled(asked, answers)
            assert cost == needed if once else cost >= needed
            for number, answer in zip(acting, answers, strict=True):
                context = np.concatenate([contexts[number], answer.tokens])
                assert_faithful(LOADED_TOO, contexts[number], answer, params(seeds[number]))
                stored |= prefixes([context])
                contexts[number] = np.concatenate([context, prompt(lengths[hears[number]], seed=10 * turn + hears[number])])


LOADED_TOO = small()


def test_who_comes_while_a_sibling_runs_computes_nothing_again() -> None:
    engine = engine_for(LOADED, max_batch=8)
    contexts = [prompt(40)] * 4
    answers = sample_all(engine, [(c, params(seed=3)) for c in contexts])
    computed = engine.computed_tokens
    contexts = answered(contexts, answers, [prompt(30, seed=1)] * 4)

    async def later(number: int) -> Completion:
        await asyncio.sleep(0)
        await steps_later(engine, 2 * number)
        return await engine.sample(contexts[number], params(number, tokens=20))

    async def all_of_them() -> list[Completion]:
        return list(await asyncio.gather(*map(later, range(4))))

    replies = asyncio.run(all_of_them())
    assert engine.computed_tokens - computed == 30 + sum(len(reply.tokens) for reply in replies)


def test_siblings_that_share_a_segment_leave_the_slots_of_others_alone() -> None:
    """Two groups of four in eight slots: while one takes its second turn, the other's contexts wait for their tools."""
    engine = engine_for(LOADED, max_batch=8)
    contexts = [prompt(40, seed=number // 4) for number in range(8)]
    answers = sample_all(engine, [(c, params(seed=number // 4)) for number, c in enumerate(contexts)])
    second = answered(contexts, answers, [prompt(60, seed=2 + number // 4) for number in range(8)])
    for group in (second[:4], second[4:]):
        computed = engine.computed_tokens
        replies = sample_all(engine, [(c, params(seed)) for seed, c in enumerate(group)])
        assert engine.computed_tokens - computed == 60 + sampled(group, replies)


@pytest.mark.parametrize("budget", [0, 150])
def test_segments_made_at_later_turns_are_evicted_like_others(budget: int) -> None:
    """Three groups take turns after turns; what was evicted is computed again, and says the same."""
    engine, roomy = engine_for(LOADED, max_batch=4, shared_tokens=budget), engine_for(LOADED, max_batch=4)
    contexts = [[prompt(50, seed=group)] * 4 for group in range(3)]
    for turn in range(3):
        for number, group in enumerate(contexts):
            requests = [(c, params(seed=turn + 7 * number)) for c in group]
            answers = sample_all(engine, requests)
            assert [a.tokens.tolist() for a in answers] == [a.tokens.tolist() for a in sample_all(roomy, requests)]
            contexts[number] = answered(group, answers, [prompt(55, seed=turn)] * 4)
            longest = max(map(len, contexts[number]))
            assert sum(map(len, engine._cache.segments)) <= budget + longest
    assert engine.computed_tokens > roomy.computed_tokens


def test_sharing_moves_no_token_and_hardly_a_log_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(engine: LocalEngine) -> list[Completion]:
        contexts, said = [prompt(40, seed=number // 4) for number in range(8)], []
        for turn in range(3):
            answers = sample_all(engine, [(c, params(seed=number // 2)) for number, c in enumerate(contexts)])
            said += answers
            contexts = answered(contexts, answers, [prompt(20, seed=turn)] * 8)
        return said

    shared = play(engine_for(LOADED))
    monkeypatch.setattr(admission, "COMPUTE_ONCE", 10**9)
    for one, other in zip(shared, play(engine_for(LOADED)), strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)


def test_deterministic_siblings_share_too_and_keep_every_bit() -> None:
    engine, alone = (engine_for(LOADED, max_batch=8, deterministic=True) for _ in range(2))
    contexts = [prompt(41)] * 8
    for turn in range(2):
        computed = engine.computed_tokens, alone.computed_tokens
        answers = sample_all(engine, [(c, params(seed=3)) for c in contexts])
        (one,) = sample_all(alone, [(contexts[0], params(seed=3))])
        assert all(answer.logprobs.tobytes() == one.logprobs.tobytes() for answer in answers)
        assert engine.computed_tokens - computed[0] <= alone.computed_tokens - computed[1] + 7 * 5 * 16  # a chunk for each token
        contexts = answered(contexts, answers, [prompt(60, seed=turn)] * 8)


@pytest.mark.parametrize("others", [1, 2], ids=["one alone", "two that share more"])
def test_nothing_is_copied_from_a_segment_that_is_still_to_be_filled(others: int) -> None:
    """Two that go on alike make a segment; who shares its first two tokens only, fewer than are worth one, comes in the same step."""
    engine, reference = engine_for(small()), small()
    stem = prompt(30)
    contexts = [stem, stem, *(np.concatenate([stem[:2], prompt(20, seed=7), prompt(3, seed=i)]) for i in range(others))]
    empty = Segment.empty.__func__  # type: ignore[attr-defined]

    def dirty(kind: type[Segment], *given: Any) -> Segment:
        made: Segment = empty(kind, *given)
        made.keys.fill_(1e4)  # what fresh memory may hold
        made.values.fill_(1e4)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segment, "empty", classmethod(dirty))
        requests = [(context, params(seed)) for seed, context in enumerate(contexts)]
        answers = sample_all(engine, requests)
    for (context, asked), answer in zip(requests, answers, strict=True):
        assert_faithful(reference, context, answer, asked)
