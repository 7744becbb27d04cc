"""The engine says what the plain model says: token by token and probability by probability, however the work is arranged."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ARCHITECTURES, assert_faithful, engine_for, logits_of, prompt, sample_all, small, steps_later, unique_prefixes
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Ints
from sojourn.engine import Completion, SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.models import LoadedModel, ModelNotFound, load

GREEDY = SamplingParams(max_tokens=20, temperature=0.0)
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def generated(reference: LoadedModel, tokens: Ints, count: int) -> list[int]:
    """What `transformers` itself says greedily."""
    with torch.no_grad():
        ids = torch.from_numpy(tokens)[None]
        out = reference.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return list(out[0, len(tokens) :].tolist())


@architectures
def test_greedy_equals_generate(architecture: str) -> None:
    tokens = prompt(40)
    (completion,) = sample_all(engine_for(small(architecture)), [(tokens, GREEDY)])
    assert completion.tokens.tolist() == generated(small(architecture), tokens, GREEDY.max_tokens)


@architectures
def test_mixed_lengths_in_one_batch(architecture: str) -> None:
    engine, reference = engine_for(small(architecture)), small(architecture)
    requests = [(prompt(length, seed=length), replace(GREEDY, max_tokens=6 + length % 5)) for length in (1, 7, 30, 70, 120)]
    for (tokens, params), completion in zip(requests, sample_all(engine, requests), strict=True):
        assert_faithful(reference, tokens, completion, params)


@architectures
@pytest.mark.parametrize("shared", [10, 60, 130], ids=["copied", "attended once", "longer than the first buffer"])
def test_a_shared_prefix_changes_nothing(architecture: str, shared: int) -> None:
    engine, reference = engine_for(small(architecture)), small(architecture)
    requests = [(np.concatenate([prompt(shared), prompt(5 * i, seed=i + 1)]), replace(GREEDY, max_tokens=12)) for i in range(5)]
    for (tokens, params), completion in zip(requests, sample_all(engine, requests), strict=True):
        assert_faithful(reference, tokens, completion, params)


@architectures
def test_prefixes_shared_by_all_and_by_some(architecture: str) -> None:
    """A system prompt that all share, questions that two share each: segments on segments."""
    engine, reference = engine_for(small(architecture)), small(architecture)
    system, params = prompt(55), replace(GREEDY, max_tokens=10)
    questions = [np.concatenate([system, prompt(60, seed=1 + i // 2), prompt(1 + i, seed=9)]) for i in range(6)]
    for tokens, completion in zip(questions, sample_all(engine, [(q, params) for q in questions]), strict=True):
        assert_faithful(reference, tokens, completion, params)


@architectures
def test_a_second_turn_computes_only_what_is_new(architecture: str) -> None:
    engine, reference = engine_for(small(architecture)), small(architecture)
    first = prompt(50)
    (answer,) = sample_all(engine, [(first, GREEDY)])
    assert engine.computed_tokens == len(first) + len(answer.tokens) - 1
    second = np.concatenate([first, answer.tokens, prompt(9, seed=1)])
    (reply,) = sample_all(engine, [(second, GREEDY)])
    assert engine.computed_tokens == len(second) + len(reply.tokens) - 1
    assert_faithful(reference, second, reply, GREEDY)


@architectures
def test_branches_share_their_past(architecture: str) -> None:
    """Siblings after a shared action: each computes what it has of its own, and the action's last token."""
    engine, reference = engine_for(small(architecture)), small(architecture)
    (answer,) = sample_all(engine, [(prompt(50), GREEDY)])
    stem = np.concatenate([prompt(50), answer.tokens])
    computed = engine.computed_tokens
    contexts = [np.concatenate([stem, prompt(8, seed=i)]) for i in range(1, 5)]
    params = replace(GREEDY, max_tokens=8)
    completions = sample_all(engine, [(context, params) for context in contexts])
    for context, completion in zip(contexts, completions, strict=True):
        assert_faithful(reference, context, completion, params)
    assert engine.computed_tokens - computed == sum(8 + len(c.tokens) for c in completions)


def test_a_group_computes_its_prompt_once() -> None:
    engine, tokens = engine_for(small()), prompt(90)
    completions = sample_all(engine, [(tokens, SamplingParams(max_tokens=5, seed=i)) for i in range(8)])
    assert engine.computed_tokens == unique_prefixes([np.concatenate([tokens, c.tokens[:-1]]) for c in completions])


@architectures
def test_more_requests_than_slots(architecture: str) -> None:
    """Slots are taken over again and again, and contexts that lost theirs come back for a second turn."""
    engine, reference = engine_for(small(architecture), max_batch=3), small(architecture)
    params = replace(GREEDY, max_tokens=5)
    contexts = [prompt(10 + 9 * i, seed=i) for i in range(8)]
    answers = sample_all(engine, [(context, params) for context in contexts])
    again = [np.concatenate([c, a.tokens, prompt(4)]) for c, a in zip(contexts, answers, strict=True)]
    for context, completion in zip(contexts + again, answers + sample_all(engine, [(c, params) for c in again]), strict=True):
        assert_faithful(reference, context, completion, params)


requests = st.lists(
    st.tuples(
        st.integers(0, 3),  # which stem it has as a prefix
        st.sampled_from([0, 2, 5, 50, 70]),  # how much of it
        st.integers(1, 30),  # tokens of its own
        st.integers(0, 12),  # steps of the engine before it arrives
        st.integers(0, 2),  # further turns
    ),
    min_size=2,
    max_size=7,
)


@settings(max_examples=12)
@given(requests=requests, architecture=st.sampled_from(["llama", "gemma3"]), slots=st.integers(2, 8))
def test_any_arrangement_is_faithful(requests: list[tuple[int, int, int, int, int]], architecture: str, slots: int) -> None:
    """Staggered arrivals, nested prefixes, several turns, evictions: the log-probabilities are those of the plain model."""
    engine, reference = engine_for(MODELS[architecture], max_batch=slots), REFERENCES[architecture]
    seen: list[tuple[Ints, Completion, SamplingParams]] = []

    async def talk(number: int, stem: int, shared: int, own: int, wait: int, turns: int) -> None:
        await asyncio.sleep(0)
        await steps_later(engine, wait)
        tokens = np.concatenate([prompt(70, seed=100 + stem)[:shared], prompt(own, seed=number)])
        for turn in range(1 + turns):
            params = SamplingParams(max_tokens=4 + number, seed=10 * number + turn)
            completion = await engine.sample(tokens, params)
            seen.append((tokens, completion, params))
            tokens = np.concatenate([tokens, completion.tokens, prompt(1 + turn, seed=turn)])

    async def everybody() -> None:
        await asyncio.gather(*(talk(number, *request) for number, request in enumerate(requests)))

    asyncio.run(everybody())
    for tokens, completion, params in seen:
        assert_faithful(reference, tokens, completion, params)


MODELS = {name: small(name) for name in ("llama", "gemma3")}
REFERENCES = {name: small(name) for name in ("llama", "gemma3")}


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=1.5, top_k=5),
        SamplingParams(top_p=0.6),
        SamplingParams(min_p=0.3),
        SamplingParams(temperature=0.8, top_k=20, min_p=0.05, top_p=0.9),
        SamplingParams(temperature=1.3, allowed=((65, 66, 67), (65, 66, 68), (70,), (71, 72))),
        SamplingParams(top_k=1, allowed=((65, 66), (66, 65))),
    ],
    ids=["temperature", "top-k", "top-p", "min-p", "all three", "allowed", "allowed and top-k"],
)
def test_log_probabilities_are_those_of_the_restricted_distribution(params: SamplingParams) -> None:
    engine, reference, tokens = engine_for(small()), small(), prompt(30)
    several = [replace(params, max_tokens=10, seed=seed) for seed in range(4)]
    for one, completion in zip(several, sample_all(engine, [(tokens, one) for one in several]), strict=True):
        assert_faithful(reference, tokens, completion, one)


def test_a_constrained_completion_is_one_of_the_allowed() -> None:
    allowed = ((65, 66, 67), (65, 66), (70,), (71, 72))  # (65, 66) is complete before (65, 66, 67) is
    params = [SamplingParams(allowed=allowed, seed=seed, temperature=3.0) for seed in range(12)]
    said = {tuple(c.tokens.tolist()) for c in sample_all(engine_for(small()), [(prompt(20), p) for p in params])}
    assert said <= set(allowed)
    assert len(said) > 1


@architectures
def test_score_is_the_log_probability_of_each_token(architecture: str) -> None:
    engine, tokens = engine_for(small(architecture)), prompt(60)
    logits = torch.from_numpy(logits_of(small(architecture), tokens))
    expected = logits.log_softmax(-1)[torch.arange(59), torch.from_numpy(tokens[1:])].numpy()
    scores = asyncio.run(engine.score(tokens))
    assert scores[0] == 0
    np.testing.assert_allclose(scores[1:], expected, atol=1e-4)


def test_new_weights_forget_the_old_keys_and_values() -> None:
    loaded, tokens = small(), prompt(30)
    engine = engine_for(loaded)
    sample_all(engine, [(tokens, GREEDY)])
    changed = small(seed=5)
    loaded.model.load_state_dict(changed.model.state_dict())
    engine.update(1)
    (completion,) = sample_all(engine, [(tokens, GREEDY)])
    assert completion.version == 1
    assert_faithful(changed, tokens, completion, GREEDY)


def test_bfloat16_keeps_near_its_own_forward() -> None:
    loaded, reference, tokens = small(), small(), prompt(60)
    loaded.model.bfloat16()
    reference.model.bfloat16()
    params = [SamplingParams(max_tokens=8, seed=seed) for seed in range(3)]
    for completion in sample_all(engine_for(loaded), [(tokens, p) for p in params]):
        path = np.concatenate([tokens, completion.tokens])
        expected = torch.from_numpy(logits_of(reference, path)).log_softmax(-1)[len(tokens) - 1 : -1]
        np.testing.assert_allclose(
            completion.logprobs, expected[torch.arange(len(completion.tokens)), torch.from_numpy(completion.tokens)], atol=0.15
        )


@pytest.fixture(scope="module")
def smollm2(with_and_without_kernels: None) -> LoadedModel:
    try:
        return load("smollm2-135m")
    except ModelNotFound as error:
        pytest.skip(str(error))


def test_smollm2_says_what_generate_says(smollm2: LoadedModel) -> None:
    """Single turn, second turn, and two branches after it."""
    ask = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    first = np.asarray(smollm2.tokenizer.encode(ask))
    answer = generated(smollm2, first, 12)
    stem = [*first.tolist(), *answer]
    branches = [
        np.asarray(stem + smollm2.tokenizer.encode(text)) for text in ("\n<|im_start|>user\nWhy?", "\n<|im_start|>user\nAnd")
    ]
    expected = [generated(smollm2, branch, 4) for branch in branches]
    engine = LocalEngine(smollm2.model, smollm2.tokenizer, max_batch=4)
    (said,) = sample_all(engine, [(first, replace(GREEDY, max_tokens=12))])
    assert said.tokens.tolist() == answer
    computed = engine.computed_tokens
    replies = sample_all(engine, [(branch, replace(GREEDY, max_tokens=4)) for branch in branches])
    assert [reply.tokens.tolist() for reply in replies] == expected
    assert engine.computed_tokens - computed < 30  # the stem of more than 40 tokens was not computed again
