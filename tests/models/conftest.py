"""GGUF files and wheels made on the spot, by the rules of llama.cpp's converter and of the wheel format."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from sojourn.models import LoadedModel, tiny

_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches a network or the user's caches."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SOJOURN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()


@pytest.fixture
def llama_gguf(tmp_path: Path) -> tuple[LoadedModel, bytes]:
    """A tiny llama with a BPE that has merged spaces and words, and the same as GGUF."""
    original = tiny(["the  cat   sat    on the mat"] * 3, vocab_size=280, architecture="llama")
    tokenizer = original.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return original, gguf_bytes(
        tmp_path / "llama.gguf",
        original,
        "llama",
        rope_freq_base=original.model.config.rope_parameters["rope_theta"],
        tokenizer_model="gpt2",
        tokenizer_pre="smollm",
        token_list=tokens,
        token_merges=[" ".join(merge) for merge in merges],
        token_types=[3 if token in tokenizer.all_special_tokens else 1 for token in tokens],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        unk_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        chat_template=tokenizer.chat_template,
    )


@pytest.fixture
def gemma_gguf(tmp_path: Path) -> tuple[LoadedModel, bytes]:
    """A tiny gemma3 and the same as GGUF, with a SentencePiece vocabulary of letters, spaces, bytes, words and turn tokens."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    words = ["\u2581", *"abcht", "at", "hat", "\u2581c", "\u2581cat"]
    tokens = [*special, "\n", "  ", *words, *(f"<0x{byte:02X}>" for byte in range(240))]  # 259, as the tiny model has
    layer_types = ["sliding_attention"] * 5 + ["full_attention"]
    original = tiny(architecture="gemma3", hidden=32, heads=2, layers=6, layer_types=layer_types)
    return original, gguf_bytes(
        tmp_path / "gemma.gguf",
        original,
        "gemma3",
        rope_freq_base=1_000_000.0,
        sliding_window=original.model.config.sliding_window,
        tokenizer_model="llama",
        tokenizer_pre="default",
        token_list=tokens,
        token_scores=[0.0] * len(tokens),
        token_types=[3] * len(special) + [4, 4] + [1] * len(words) + [6] * 240,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        unk_token_id=3,
        add_bos_token=True,
    )


@pytest.fixture
def write_wheel(tmp_path: Path) -> Callable[[str, str, bytes], None]:
    """Puts a wheel that holds one file, and wants a package that does not exist, where pip looks."""

    def write(name: str, member: str, data: bytes) -> None:
        module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-package\n"
        with zipfile.ZipFile(tmp_path / "index" / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/{member}", data)
            wheel.writestr(f"{info}/METADATA", metadata)
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    return write


def gguf_bytes(path: Path, loaded: LoadedModel, architecture: str, **fields: Any) -> bytes:
    """`loaded` as llama.cpp's `convert_hf_to_gguf.py` would write it, unquantised."""
    config = loaded.model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for field, value in fields.items():
        getattr(writer, f"add_{field}")(value)
    for name, tensor in loaded.model.state_dict().items():
        if name != "lm_head.weight":  # tied
            writer.add_tensor(*_as_llama_cpp_stores(name, tensor, architecture, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _as_llama_cpp_stores(name: str, tensor: torch.Tensor, architecture: str, config: Any) -> tuple[str, np.ndarray]:
    array = tensor.numpy()
    if architecture == "gemma3" and "norm" in name:
        array = array + 1
    if architecture == "llama" and "q_proj" in name:
        array = _permuted(array, config.num_attention_heads)
    if architecture == "llama" and "k_proj" in name:
        array = _permuted(array, config.num_key_value_heads)
    if name == "model.embed_tokens.weight":
        return "token_embd.weight", array
    if name == "model.norm.weight":
        return "output_norm.weight", array
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    after_attention = {"llama": "ffn_norm", "gemma3": "post_attention_norm"}[architecture]
    return f"blk.{layer}.{(_LAYER_NAMES | {'post_attention_layernorm': after_attention})[part]}.weight", np.ascontiguousarray(
        array
    )


def _permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp: row i of the first half of a head, then row i of its second half, and so on."""
    rows = weights.shape[0] // heads
    order = [head * rows + half * rows // 2 + i for head in range(heads) for i in range(rows // 2) for half in (0, 1)]
    return weights[order]
