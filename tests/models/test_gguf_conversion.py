"""What llama.cpp's converter did to a model is undone exactly."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from sojourn.models import LoadedModel, load
from sojourn.models.convert import convert
from sojourn.models.gguf_file import GgufFile

LONGER_THAN_THE_WINDOW = torch.arange(40)[None] + 60


@pytest.mark.parametrize("fixture", ["llama_gguf", "gemma_gguf"])
def test_a_converted_model_computes_what_the_original_computed(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    original, data = request.getfixturevalue(fixture)
    convert(GgufFile(data), tmp_path)
    converted = load(tmp_path)
    with torch.no_grad():
        expected, found = original.model(LONGER_THAN_THE_WINDOW).logits, converted.model(LONGER_THAN_THE_WINDOW).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # 1 + w is rounded in gemma


def test_a_byte_level_tokenizer_cuts_each_digit_and_keeps_spaces_before_it_together(
    llama_gguf: tuple[LoadedModel, bytes], tmp_path: Path
) -> None:
    convert(GgufFile(llama_gguf[1]), tmp_path)
    tokenizer = load(tmp_path).tokenizer
    assert tokenizer.tokenize("  48") == ["\u0120\u0120", "4", "8"]


def test_special_tokens_and_chat_template_survive(llama_gguf: tuple[LoadedModel, bytes], tmp_path: Path) -> None:
    original, data = llama_gguf
    convert(GgufFile(data), tmp_path)
    converted = load(tmp_path)
    turn = [{"role": "user", "content": "the cat sat on 12 mats"}]
    assert converted.tokenizer.apply_chat_template(turn) == original.tokenizer.apply_chat_template(turn)
    assert converted.tokenizer.eos_token == "<|im_end|>"
    assert converted.model.generation_config.eos_token_id == original.tokenizer.eos_token_id


def test_sentencepiece_merges_follow_the_order_of_the_vocabulary(gemma_gguf: tuple[LoadedModel, bytes], tmp_path: Path) -> None:
    convert(GgufFile(gemma_gguf[1]), tmp_path, chat_template="{{ bos_token }}", end_of_turn="<end_of_turn>")
    tokenizer = load(tmp_path).tokenizer
    assert tokenizer.tokenize("hat cat\n") == ["hat", "\u2581cat", "\n"]  # "at" first, then what it completes
    assert tokenizer.decode(tokenizer("a  b", add_special_tokens=False).input_ids) == "a  b"
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token == "<end_of_turn>"


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_a_tensor_is_dequantised_as_the_gguf_package_reads_it(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    quantised = gguf.quantize(values, gguf.GGMLQuantizationType[kind])
    writer: Any = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("first", np.ones(3, np.float32))  # so that the second is aligned
    writer.add_tensor("second", quantised, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufFile((tmp_path / "x.gguf").read_bytes()).tensor("second")
    step = {"F32": 0.0, "F16": 1e-3, "Q8_0": 0.02, "Q5_0": 0.2, "Q4_0": 0.4, "Q4_1": 0.4}[kind]
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - values).max() <= step


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a GGUF file"):
        GgufFile(b"PK\x03\x04" + bytes(100))
