"""What our attention does not know is refused by name, before anything is sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import engine_for, logits_of, prompt, small

from sojourn.engine import attention
from sojourn.engine.attention import attach, plain, using
from sojourn.models import tiny

HARMLESS: list[dict[str, Any]] = [{}, {"dropout": 0.0, "is_causal": True}, {"softcap": None, "position_ids": torch.arange(3)}]
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"softcap": 30.0}, "softcap = 30.0"),
    ({"dropout": 0.1}, "dropout = 0.1"),
    ({"is_causal": False}, "is_causal = False"),
    ({"position_bias": torch.zeros(1, 4, 3, 3)}, r"position_bias = a tensor \(1, 4, 3, 3\)"),
    ({"head_mask": torch.ones(4)}, r"head_mask = a tensor \(4,\)"),
    ({"attention_mask": torch.zeros(1, 1, 3, 3)}, r"attention_mask = a tensor \(1, 1, 3, 3\)"),
    ({"something_new": 1}, "something_new = 1"),
]


def attended(**arguments: Any) -> torch.Tensor:
    """What a layer of a model gets that calls attention with these arguments."""
    layer = small().model.base_model.layers[1].self_attn
    parts = [torch.zeros(1, heads, 3, 8) for heads in (4, 2, 2)]
    with using(attention._Tried([])):
        return attention._attention(layer, *parts, arguments.pop("attention_mask", None), **arguments)[0]


@pytest.mark.parametrize("arguments", HARMLESS)
def test_arguments_that_change_nothing_are_taken(arguments: dict[str, Any]) -> None:
    assert attended(**arguments).shape == (1, 3, 4, 8)


@pytest.mark.parametrize(("arguments", "named"), UNKNOWN)
def test_arguments_that_attention_does_not_know_are_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"model type 'llama' cannot be run faithfully: its attention takes {named}"):
        attended(**arguments)


@pytest.mark.parametrize(
    ("architecture", "named"),
    [
        ("gemma2", "attn_logit_softcapping = 50.0"),
        ("cohere", "logit_scale = 0.0625"),
        ("llama4_text", "layers of the type chunked_attention"),
        ("mamba", "layers of the type linear_attention"),
        ("bloom", r"of its 2 layers those that attend through transformers are \[\]"),
        ("doge", "attention_mask = a tensor"),
        ("opt", "layer 0 has 4 heads of keys of size 8, its config says 2 of 8"),
    ],
)
def test_architectures_that_attend_otherwise_are_refused_with_a_sentence(architecture: str, named: str) -> None:
    loaded = tiny(hidden=32, layers=2, architecture=architecture)
    before = loaded.model.config._attn_implementation
    for _ in range(2):  # what was refused once is refused again
        with pytest.raises(ValueError, match=f"cannot be run faithfully: .*{named}.*choose a model of another type"):
            attach(loaded.model)
    assert loaded.model.config._attn_implementation == before


def test_a_window_that_the_config_does_not_name_is_refused() -> None:
    loaded = small("qwen3")
    loaded.model.base_model.layers[1].self_attn.sliding_window = 8
    with pytest.raises(ValueError, match=r"layer 1 has a sliding window of 8 tokens"):
        attach(loaded.model)


def test_two_kinds_of_rotation_in_one_context_are_refused() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
    }
    loaded = small("phi3", rope_parameters=rope, original_max_position_embeddings=64, context=256)
    with pytest.raises(ValueError, match="set max_context to 64, it is 100"):
        engine_for(loaded, max_context=100)
    assert engine_for(loaded, max_context=64).max_context == 64


def test_in_plain_a_model_is_what_transformers_ships() -> None:
    loaded = small("gpt_oss")
    expected = logits_of(small("gpt_oss"), prompt(30))
    attach(loaded.model)
    with plain(loaded.model):
        np.testing.assert_allclose(logits_of(loaded, prompt(30)), expected, atol=1e-4)
    assert loaded.model.config._attn_implementation == attention.NAME
