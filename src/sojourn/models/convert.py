"""Turn a GGUF file into a folder that `transformers` loads: config, tokenizer, float32 safetensors.

No model is built on the way: tensors are dequantised, renamed and written.  `transformers` has a GGUF loader too; it gives the
same weights far more slowly, and a tokenizer that cuts spaces before digits otherwise than SmolLM2 was trained with ("  4" as
three tokens, not two).  Known here are the architectures that the packages in `known.py` hold: llama with a byte-level BPE, and
gemma3 with SentencePiece.
Sources: https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py (what was renamed, permuted and shifted), and
src/llama-vocab.cpp there (how each pre-tokenizer cuts).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from sojourn.models.gguf_file import GgufFile

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

_GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FFN_NORM = {"llama": "post_attention_layernorm", "gemma3": "pre_feedforward_layernorm"}


def convert(file: GgufFile, folder: Path, *, chat_template: str | None = None, end_of_turn: str | None = None) -> None:
    """Write the model in `file` to `folder` (which exists).

    chat_template, end_of_turn: what to use where the file has no template of its own (base models).
    """
    build = {"llama": (_llama_config, _byte_level), "gemma3": (_gemma_config, _gemma_tokenizer)}
    make_config, make_tokenizer = build[file.fields["general.architecture"]]
    tokenizer = make_tokenizer(file.fields)
    tokenizer.chat_template = file.fields.get("tokenizer.chat_template", chat_template)
    if end_of_turn is not None:
        tokenizer.eos_token = end_of_turn
    config = make_config(file.fields, _shared_config(file))
    config.save_pretrained(folder)
    transformers.GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=config.pad_token_id
    ).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    save_file(_weights(file), folder / "model.safetensors", metadata={"format": "pt"})


def _weights(file: GgufFile) -> dict[str, torch.Tensor]:
    """All tensors, under the names and in the layout of `transformers`."""
    return {_name(name, file.fields["general.architecture"]): _relaid(name, file) for name in file.names}


def _name(name: str, architecture: str) -> str:
    stem, suffix = name.rsplit(".", 1)
    if not stem.startswith("blk."):
        return f"{_GLOBAL[stem]}.{suffix}"
    _, layer, part = stem.split(".")
    renamed = _FFN_NORM[architecture] if part == "ffn_norm" else _IN_LAYER[part]
    return f"model.layers.{layer}.{renamed}.{suffix}"


def _relaid(name: str, file: GgufFile) -> torch.Tensor:
    tensor, fields = file.tensor(name), file.fields
    if fields["general.architecture"] == "gemma3":
        return tensor - 1 if name.endswith("norm.weight") else tensor  # llama.cpp stores 1 + w
    if ".attn_q." in name:
        return _unpermuted(tensor, fields["llama.attention.head_count"])
    if ".attn_k." in name:
        return _unpermuted(tensor, fields["llama.attention.head_count_kv"])
    return tensor


def _unpermuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo llama.cpp's order of rotary pairs: (x0, y0, x1, y1, ...) back to (x0, x1, ..., y0, y1, ...) within each head."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _shared_config(file: GgufFile) -> dict[str, Any]:
    fields, prefix = file.fields, file.fields["general.architecture"]
    return {
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": fields[f"{prefix}.embedding_length"],
        "intermediate_size": fields[f"{prefix}.feed_forward_length"],
        "num_hidden_layers": fields[f"{prefix}.block_count"],
        "num_attention_heads": fields[f"{prefix}.attention.head_count"],
        "num_key_value_heads": fields[f"{prefix}.attention.head_count_kv"],
        "max_position_embeddings": fields[f"{prefix}.context_length"],
        "rms_norm_eps": fields[f"{prefix}.attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": "output.weight" not in file.names,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
        "dtype": "float32",
    }


def _llama_config(fields: dict[str, Any], shared: dict[str, Any]) -> transformers.PreTrainedConfig:
    rope = {"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]}
    return transformers.LlamaConfig(architectures=["LlamaForCausalLM"], rope_parameters=rope, **shared)


def _gemma_config(fields: dict[str, Any], shared: dict[str, Any]) -> transformers.PreTrainedConfig:
    return transformers.Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        head_dim=fields["gemma3.attention.key_length"],
        query_pre_attn_scalar=fields["gemma3.attention.key_length"],
        sliding_window=fields["gemma3.attention.sliding_window"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": fields["gemma3.rope.freq_base"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},  # not in the file; Gemma 3 report
        },
        **shared,
    )


def _byte_level(fields: dict[str, Any]) -> transformers.PreTrainedTokenizerFast:
    """SmolLM's tokenizer: each digit alone, then the byte-level BPE of GPT-2 (pre-tokenizer "smollm")."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [(left, right) for left, right in (merge.split(" ") for merge in fields["tokenizer.ggml.merges"])]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"]],
        model_max_length=fields["llama.context_length"],
    )
    _add_whole_tokens(tokenizer, tokens, fields["tokenizer.ggml.token_type"])
    return tokenizer


def _gemma_tokenizer(fields: dict[str, Any]) -> transformers.PreTrainedTokenizerFast:
    """Gemma's SentencePiece vocabulary as a BPE; the merges are not in the file but follow from the vocabulary and its order."""
    tokens = [token.replace(" ", "\u2581") if not token.strip(" ") else token for token in fields["tokenizer.ggml.tokens"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    merges: Any = [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in reversed(range(1, len(token)))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    tokenizer = transformers.GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        add_bos_token=fields["tokenizer.ggml.add_bos_token"],
        model_max_length=fields["gemma3.context_length"],
    )
    _add_whole_tokens(tokenizer, tokens, fields["tokenizer.ggml.token_type"])
    return tokenizer


def _add_whole_tokens(tokenizer: transformers.PreTrainedTokenizerFast, tokens: list[str], kinds: list[int]) -> None:
    """Control tokens and user-defined tokens are never cut."""
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        whole = [token for token, found in zip(tokens, kinds, strict=True) if found == kind]
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=special) for token in whole], special_tokens=special)
