"""How a request ends, and what a request that ends badly leaves to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_faithful, engine_for, prompt, sample_all, small, steps_later

from sojourn.core import ContextFull, InfrastructureError, Ints
from sojourn.engine import SamplingParams, batch
from sojourn.engine.local import LocalEngine

GREEDY = SamplingParams(max_tokens=6, temperature=0.0)


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> LocalEngine:
    """An engine whose byte-level model says `text`, whatever its logits are."""
    scripted = iter(text.encode())
    monkeypatch.setattr(batch, "sample", lambda logits, _: (torch.tensor([next(scripted)]), torch.zeros(1)))
    return engine_for(small())


def said(engine: LocalEngine, tokens: Ints, *stop: str) -> str:
    (completion,) = sample_all(engine, [(tokens, SamplingParams(stop=stop, max_tokens=64))])
    assert completion.stop == "stop"
    return bytes(completion.tokens.tolist()).decode()


@pytest.mark.parametrize("stop", ["</a>", "b</a>c", "\u2026", "d\u00e9j\u00e0"], ids=["tag", "longer", "ellipsis", "accents"])
def test_a_stop_text_ends_the_completion_with_the_token_that_completes_it(monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    engine = says(monkeypatch, f"b \u00e9 and then b{stop} and so on")
    assert said(engine, prompt(10), "never", stop) == f"b \u00e9 and then b{stop}"


def test_a_stop_text_that_the_prompt_began_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.frombuffer(b"say </a", np.uint8).astype(np.int64)
    assert said(says(monkeypatch, "> b </a> c"), tokens, "</a>") == "> b </a>"


@pytest.mark.parametrize(
    ("text", "ends", "begun"),
    [
        ("<think>so <a>1</a>?</think><a>2</a> 3", "<a>2</a>", False),
        ("so <a>1</a>?</think><a>2</a> 3", "<a>2</a>", True),
        ("so <a>1</a>?</think><a>2</a> 3", "so <a>1</a>", False),
        ("<think></a></think><think></a>\u2026</think>\u2026</a> 3", "\u2026</a>", False),
        ("</think></a> 3", "</think></a>", False),
        ("<think></a> \u2026 </thin</a></think></a> 3", "</think></a>", False),
    ],
)
def test_a_stop_text_in_thinking_stops_nothing(monkeypatch: pytest.MonkeyPatch, text: str, ends: str, begun: bool) -> None:
    engine = says(monkeypatch, text)
    params = SamplingParams(stop=("</a>",), thinking=("<think>", "</think>"), in_thinking=begun, max_tokens=90)
    (completion,) = sample_all(engine, [(prompt(10), params)])
    whole = bytes(completion.tokens.tolist()).decode()
    assert whole == text[: text.index(ends) + len(ends)]
    assert (completion.stop, completion.ended) == ("stop", False)


def test_an_end_that_the_request_names_ends_the_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside thinking: the policy has nothing more to say."""
    params = SamplingParams(ends=(ord("!"),), thinking=("<think>", "</think>"), stop=("?",), max_tokens=64)
    (completion,) = sample_all(says(monkeypatch, "<think>a?b! c"), [(prompt(10), params)])
    assert bytes(completion.tokens.tolist()) == b"<think>a?b!"
    assert (completion.stop, completion.ended) == ("stop", True)


def test_the_end_of_turn_token_ends_the_completion() -> None:
    loaded = small()
    end = loaded.tokenizer.eos_token_id
    params = SamplingParams(max_tokens=400, temperature=5.0)
    (completion,) = sample_all(engine_for(loaded, max_context=2000), [(prompt(5), replace(params, max_tokens=1500))])
    assert completion.stop == "stop"
    assert completion.tokens.tolist().index(end) == len(completion.tokens) - 1


def test_max_tokens_ends_it_as_length() -> None:
    (completion,) = sample_all(engine_for(small()), [(prompt(10), replace(GREEDY, max_tokens=3))])
    assert (len(completion.tokens), completion.stop) == (3, "length")


def test_a_completion_ends_where_the_context_does() -> None:
    (completion,) = sample_all(engine_for(small(), max_context=16), [(prompt(12), replace(GREEDY, max_tokens=100))])
    assert (len(completion.tokens), completion.stop) == (4, "length")


def test_a_full_context_is_refused_and_the_others_go_on() -> None:
    engine = engine_for(small(), max_context=16)

    async def both() -> list[Any]:
        requests = (engine.sample(prompt(n), GREEDY) for n in (16, 8))
        return await asyncio.gather(*requests, return_exceptions=True)

    refused, answered = asyncio.run(both())
    assert isinstance(refused, ContextFull)
    assert "16" in str(refused)
    assert len(answered.tokens) == 6


def test_answers_of_one_pass_come_in_the_order_of_asking() -> None:
    """Not in that of their slots: requests with equal prompts share one, and what a program records would follow the cache."""
    engine, told = engine_for(small()), []

    async def ask(number: int) -> None:
        await engine.sample(prompt(10 + number % 2), SamplingParams(max_tokens=1, seed=number))
        told.append(number)

    async def all_at_once() -> None:
        await asyncio.gather(*(ask(number) for number in range(6)))

    asyncio.run(all_at_once())
    assert told == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("turns", [0, 1, None], ids=["before it was seen", "waiting or just begun", "running"])
def test_a_cancelled_request_leaves_the_engine_usable(turns: int | None) -> None:
    engine, reference = engine_for(small(), max_batch=2), small()

    async def cancel_some() -> None:
        tasks = [asyncio.create_task(engine.sample(prompt(20, seed=i), replace(GREEDY, max_tokens=30))) for i in range(4)]
        for _ in range(1 if turns is None else turns):
            await asyncio.sleep(0)
        if turns is None:
            await steps_later(engine, 3)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        engine.update(0)  # no slot is left busy

    asyncio.run(cancel_some())
    (completion,) = sample_all(engine, [(prompt(20), GREEDY)])
    assert_faithful(reference, prompt(20), completion, GREEDY)


def before_each_pass(engine: LocalEngine, heard: Callable[[int], None]) -> None:
    """`heard` is told how many tokens come before each forward pass."""
    engine.model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: heard(inputs[0].numel()))


def test_when_all_are_cancelled_no_empty_step_runs() -> None:
    engine = engine_for(small())
    widths: list[int] = []
    before_each_pass(engine, lambda tokens: widths.append(tokens))

    async def cancel_all() -> None:
        task = asyncio.create_task(engine.sample(prompt(20), replace(GREEDY, max_tokens=300)))
        await asyncio.sleep(0)
        await steps_later(engine, 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine._serving is not None
        await engine._serving

    asyncio.run(cancel_all())
    assert widths
    assert 0 not in widths


def test_an_event_loop_that_ends_early_leaves_the_engine_usable() -> None:
    engine, reference = engine_for(small()), small()

    async def leave() -> None:
        sampling = asyncio.get_running_loop().create_task(engine.sample(prompt(20), replace(GREEDY, max_tokens=300)))
        await asyncio.sleep(0)
        await steps_later(engine, 3)
        assert not sampling.done()

    asyncio.run(leave())
    engine.update(0)
    (completion,) = sample_all(engine, [(prompt(20), GREEDY)])
    assert_faithful(reference, prompt(20), completion, GREEDY)


@pytest.mark.parametrize("broken_step", [1, 2, 5])
def test_an_error_in_the_model_reaches_all_and_spoils_nothing_later(broken_step: int) -> None:
    """The broken step may have announced a KV cache that it never wrote."""
    engine, reference = engine_for(small(), max_batch=3), small()
    requests = [(np.concatenate([prompt(60), prompt(4, seed=i)]), GREEDY) for i in range(1, 5)]
    steps = [0]

    def breaking(tokens: int) -> None:
        steps[0] += 1
        if steps[0] == broken_step:
            raise RuntimeError("out of memory")

    before_each_pass(engine, breaking)

    async def all_fail() -> list[Any]:
        return await asyncio.gather(*(engine.sample(*request) for request in requests), return_exceptions=True)

    for error in asyncio.run(all_fail()):
        assert isinstance(error, InfrastructureError)
        assert "out of memory" in str(error)
    for (tokens, params), completion in zip(requests, sample_all(engine, requests), strict=True):
        assert_faithful(reference, tokens, completion, params)


def test_soft_capped_attention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="gemma2.*softcapping"):
        engine_for(small("gemma2"))


def test_any_sequence_of_ids_is_a_context() -> None:
    engine = engine_for(small())
    kinds: list[Any] = [prompt(9).tolist(), tuple(prompt(9).tolist()), prompt(9).astype(np.int32), torch.from_numpy(prompt(9))]
    expected = sample_all(engine, [(prompt(9), GREEDY)])[0].tokens.tolist()
    assert [c.tokens.tolist() for c in sample_all(engine, [(kind, GREEDY) for kind in kinds])] == 4 * [expected]
    scores = asyncio.run(engine.score(prompt(9)))
    for kind in kinds:
        np.testing.assert_array_equal(asyncio.run(engine.score(kind)), scores)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([], r"at least one integer, not list of shape \(0,\)"),
        ("Hello", r"at least one integer, not str of shape \(\).*encode texts"),
        ([1.0, 2.0], r"type float64"),
        ([[1, 2]], r"shape \(1, 2\)"),
        ([1, 400], r"token id 400 is not in the model's vocabulary of 259"),
        ([1, -2], r"token id -2 is not"),
    ],
)
def test_what_is_no_sequence_of_ids_is_refused_with_a_sentence(tokens: Any, said: str) -> None:
    engine = engine_for(small())
    for ask in (lambda: engine.sample(tokens, GREEDY), lambda: engine.score(tokens)):
        with pytest.raises(ValueError, match=said):
            asyncio.run(ask())
