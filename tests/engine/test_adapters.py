"""Adapters of one model in one running batch: each request has the numbers of its own, as `peft` computes them, and no other's past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import assert_faithful, engine_for, prompt, sample_all, small
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Ints
from sojourn.engine import Completion, SamplingParams
from sojourn.engine.adapters import activated
from sojourn.engine.llama import FusedModel
from sojourn.engine.local import LocalEngine
from sojourn.models import LoadedModel
from sojourn.training.weights import add_adapters, drop_adapter

NAMES = ("coder", "tester", "")
ARCHITECTURES = ("llama", "qwen2", "gemma3")
"""In the fused path, there with biases, and as `transformers` runs it."""


def adapted(architecture: str = "llama", ranks: Sequence[int] = (2, 3), seed: int = 0) -> LoadedModel:
    """A tiny model with the adapters "coder" and "tester", which are no longer nothing."""
    loaded = small(architecture)
    for name, rank in zip(NAMES, ranks, strict=False):
        add_adapters(loaded.model, rank, seed, name)
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)
    return loaded


def said(params: SamplingParams, completions: Sequence[Completion]) -> list[list[float]]:
    return [completion.logprobs.tolist() for completion in completions]


def asked(adapter: str | None, seed: int = 0, tokens: int = 6) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, seed=seed, adapter=adapter)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared", [0, 10, 60], ids=["nothing shared", "copied", "attended once"])
def test_each_row_has_the_numbers_of_its_own_adapter_by_peft(architecture: str, shared: int) -> None:
    loaded, reference = adapted(architecture), adapted(architecture)
    assert FusedModel.runs(loaded.model) == (architecture != "gemma3")
    requests = [(np.concatenate([prompt(shared), prompt(3 + 5 * i, seed=i // 2)]), asked(NAMES[i % 3], seed=i)) for i in range(9)]
    for (tokens, params), completion in zip(requests, sample_all(engine_for(loaded), requests), strict=True):
        with activated(reference.model, params.adapter):
            assert_faithful(reference, tokens, completion, params)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_sampled_together_say_what_they_say_apart(architecture: str) -> None:
    requests = [(prompt(20 + i, seed=i), asked(NAMES[i % 3], seed=i)) for i in range(9)]
    together = sample_all(engine_for(adapted(architecture)), requests)
    for name in NAMES:
        mine = [number for number, (_, params) in enumerate(requests) if params.adapter == name]
        apart = sample_all(engine_for(adapted(architecture)), [requests[number] for number in mine])
        for number, completion in zip(mine, apart, strict=True):
            assert together[number].tokens.tolist() == completion.tokens.tolist()
            np.testing.assert_allclose(together[number].logprobs, completion.logprobs, atol=1e-5)


def test_equal_tokens_of_different_adapters_share_no_past() -> None:
    """Counted: each adapter pays once, prompt and answer, at both turns; its three requests say the same."""
    engine, reference, tokens = engine_for(adapted(), max_batch=12), adapted(), prompt(60)
    requests = [(tokens, asked(name, seed=3)) for name in NAMES for _ in range(3)]
    completions = sample_all(engine, requests)
    assert engine.computed_tokens == 3 * 59 + sum(len(c.tokens) for c in completions[::3])
    before = engine.computed_tokens
    second = [
        (np.concatenate([tokens, c.tokens, prompt(50, seed=1)]), p) for (_, p), c in zip(requests, completions, strict=True)
    ]
    replies = sample_all(engine, second)
    assert engine.computed_tokens - before == 3 * 50 + sum(len(c.tokens) for c in replies[::3])
    for (context, params), reply in zip(second, replies, strict=True):
        with activated(reference.model, params.adapter):
            assert_faithful(reference, context, reply, params)
    same_words = [(second[0][0], asked(name)) for name in NAMES]  # what "coder" has stored, said to all
    for (context, params), reply in zip(same_words, sample_all(engine, same_words), strict=True):
        with activated(reference.model, params.adapter):
            assert_faithful(reference, context, reply, params)


MODEL, PLAIN = adapted(), adapted()
turns = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.sampled_from([0, 2, 50]), st.integers(1, 20)), min_size=2, max_size=6
)


@settings(max_examples=10)
@given(rounds=st.lists(turns, min_size=1, max_size=3), slots=st.integers(2, 8))
def test_any_arrangement_of_adapters_is_faithful(rounds: list[list[tuple[str, int, int, int]]], slots: int) -> None:
    """Stems that adapters have in common, slots that are taken over from another adapter, later turns on what is stored."""
    engine = engine_for(MODEL, max_batch=slots)
    contexts: list[Ints] = [prompt(70, seed=stem) for stem in range(3)]
    for number, asking in enumerate(rounds):
        requests = [
            (np.concatenate([contexts[stem][:part], prompt(own, seed=number)]), asked(name, seed=i, tokens=4))
            for i, (name, stem, part, own) in enumerate(asking)
        ]
        completions = sample_all(engine, requests)
        for (tokens, params), completion in zip(requests, completions, strict=True):
            with activated(PLAIN.model, params.adapter):
                assert_faithful(PLAIN, tokens, completion, params)
        contexts[number % 3] = np.concatenate([requests[0][0], completions[0].tokens])


def test_deterministic_bits_do_not_depend_on_the_others_adapters() -> None:
    def logprobs(others: Sequence[str]) -> list[float]:
        engine = engine_for(adapted(), deterministic=True)
        requests = [(prompt(30), asked("coder", seed=1)), *((prompt(30), asked(name, seed=2)) for name in others)]
        return sample_all(engine, requests)[0].logprobs.tolist()  # type: ignore[no-any-return]

    assert logprobs([]) == logprobs(["tester", ""]) == logprobs(["coder", "coder"])


def test_without_a_name_the_active_adapter_samples_and_base_rows_are_the_plain_model() -> None:
    engine, tokens = engine_for(adapted()), prompt(12)
    named, unnamed, base = sample_all(engine, [(tokens, asked(name)) for name in ("coder", None, "")])
    assert unnamed.logprobs.tolist() == named.logprobs.tolist()
    plain = sample_all(engine_for(small()), [(tokens, asked(None))])[0]
    np.testing.assert_allclose(base.logprobs, plain.logprobs, atol=1e-5)
    assert np.abs(named.logprobs - base.logprobs).max() > 0.01


def test_scores_are_of_the_adapter_that_is_named() -> None:
    import asyncio

    engine, tokens = engine_for(adapted()), prompt(20)
    for name in NAMES:
        reference = adapted()
        with activated(reference.model, name), torch.no_grad():
            logits = reference.model(torch.from_numpy(tokens)[None]).logits[0]
        expected = logits.log_softmax(-1)[:-1].gather(1, torch.from_numpy(tokens)[1:, None])[:, 0]
        np.testing.assert_allclose(asyncio.run(engine.score(tokens, name))[1:], expected, atol=1e-5)


def test_adapters_come_and_go_between_updates() -> None:
    loaded = adapted()
    engine, tokens = engine_for(loaded), prompt(9)
    before = sample_all(engine, [(tokens, asked("coder"))])[0]
    add_adapters(loaded.model, 4, 1, "third", trained=False)
    engine.update(1)
    third, base = sample_all(engine, [(tokens, asked("third")), (tokens, asked(""))])
    np.testing.assert_allclose(third.logprobs, base.logprobs, atol=1e-5)  # an adapter begins as nothing
    drop_adapter(loaded.model, "third")
    engine.update(2)
    assert sample_all(engine, [(tokens, asked("coder"))])[0].logprobs.tolist() == before.logprobs.tolist()
    with pytest.raises(
        ValueError, match="asks for the adapter 'third' of a model whose adapters that can be chosen are: coder, tester"
    ):
        sample_all(engine, [(tokens, asked("third"))])


def test_adapters_that_are_no_plain_low_rank_ones_run_as_peft_has_them() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    def special() -> LoadedModel:
        loaded = small()
        torch.manual_seed(0)
        inject_adapter_in_model(
            LoraConfig(r=2, target_modules="all-linear", use_dora=True, init_lora_weights=False), loaded.model
        )
        return loaded

    engine, tokens = engine_for(special()), prompt(12)
    (completion,) = sample_all(engine, [(tokens, asked(None))])
    assert_faithful(special(), tokens, completion, asked(None))
    for name in ("default", ""):
        with pytest.raises(ValueError, match="can be chosen are: none"):
            sample_all(engine, [(tokens, asked(name))])


def test_a_model_in_bfloat16_with_adapters_in_float32() -> None:
    def loaded() -> LoadedModel:
        made = adapted()
        made.model.bfloat16()
        for name, parameter in made.model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
        return made

    requests = [(prompt(20, seed=i), asked(NAMES[i % 3], seed=i)) for i in range(6)]
    for (tokens, params), completion in zip(
        requests, sample_all(LocalEngine(loaded().model, loaded().tokenizer), requests), strict=True
    ):
        reference = loaded()
        ids = torch.from_numpy(np.concatenate([tokens, completion.tokens]))
        with activated(reference.model, params.adapter), torch.no_grad():
            logits = reference.model(ids[None]).logits[0, len(tokens) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(1, ids[len(tokens) :, None])[:, 0]
        np.testing.assert_allclose(completion.logprobs, expected, atol=0.1)


def test_the_seed_of_an_adapter_is_its_own() -> None:
    """Two on one base begin as each begins alone."""
    both = adapted(ranks=(2, 2))
    alone = replace(small())
    add_adapters(alone.model, 2, 0, "tester")
    first = {name: p for name, p in alone.model.named_parameters() if "lora_A" in name}
    found = dict(both.model.named_parameters())
    assert first and all(torch.equal(found[name], p) for name, p in first.items())
    assert {name.split(".")[-2] for name, p in found.items() if p.requires_grad} == {"coder", "tester"}
