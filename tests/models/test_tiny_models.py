"""Tiny models have every organ of a real one, and disturb nothing."""

import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sojourn.models import tiny

ARCHITECTURES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"]
BYTE = tiny(layers=1).tokenizer
BPE = tiny(["the cat sat on the mat, 12 times"] * 2, vocab_size=300, layers=1).tokenizer


def weights(**arguments: object) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in tiny(**arguments).model.parameters()])  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seed_alone_decides_the_weights(architecture: str) -> None:
    first = weights(architecture=architecture, seed=3)
    torch.manual_seed(99)
    assert torch.equal(weights(architecture=architecture, seed=3), first)
    assert not torch.equal(weights(architecture=architecture, seed=4), first)


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny(seed=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_is_about_a_hundred_thousand_parameters(architecture: str) -> None:
    assert 80_000 < tiny(architecture=architecture).model.num_parameters() < 120_000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_logits_depend_on_every_token_in_sight(architecture: str) -> None:
    model = tiny(architecture=architecture, layers=2).model
    tokens = torch.arange(12) + 60
    changed = tokens.repeat(12, 1)
    changed[torch.arange(12), torch.arange(12)] += 1
    with torch.no_grad():
        moved = (model(changed).logits[:, -1] - model(tokens[None]).logits[:, -1]).abs().amax(dim=1)
    assert moved.min() > 1e-3  # far above float32 noise


def test_a_sliding_window_hides_what_lies_before_it() -> None:
    model = tiny(architecture="mistral", layers=1, sliding_window=4).model
    tokens = torch.arange(10)[None] + 60
    changed = tokens.clone()
    changed[0, :6] += 1
    with torch.no_grad():
        assert torch.equal(model(changed).logits[:, -1], model(tokens).logits[:, -1])


@settings(deadline=None)
@given(st.text())
def test_a_byte_tokenizer_gives_the_bytes(text: str) -> None:
    assume(not any(token in text for token in BYTE.all_special_tokens))
    assert BYTE.encode(text) == list(text.encode())


@settings(max_examples=50, deadline=None)
@given(st.text() | st.text(alphabet="the cat 12\n"))
def test_a_bpe_tokenizer_loses_nothing(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


def test_a_bpe_tokenizer_learns_words_and_keeps_digits_apart() -> None:
    assert BPE.tokenize("the cat 12") == ["the", "\u0120cat", "\u0120", "1", "2"]


def test_the_same_texts_give_the_same_tokenizer() -> None:
    texts = ["ab ba abba baab"] * 2 + ["cd dc cddc"] * 2  # many ties
    one, other = (json.loads(tiny(texts, layers=1).tokenizer.backend_tokenizer.to_str()) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("tokenizer", [BYTE, BPE], ids=["byte", "bpe"])
def test_a_turn_is_framed_by_special_tokens(tokenizer: object) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<b>Hi</b>"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)  # type: ignore[attr-defined]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<b>Hi</b><|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == text  # type: ignore[attr-defined]
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2  # type: ignore[attr-defined]


def test_special_tokens_lie_inside_the_model() -> None:
    loaded = tiny(["a b"], vocab_size=260, layers=1)
    assert max(loaded.tokenizer.all_special_ids) < loaded.model.config.vocab_size
    assert loaded.model.config.eos_token_id == loaded.tokenizer.eos_token_id
