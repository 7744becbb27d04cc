"""Small random models with a tokenizer and a chat template, built from nothing: for tests and fast experiments.

They have every organ of a real model (special tokens, chat template, rotary positions, grouped heads), so that what works with
one works with the other, at a thousandth of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sojourn.models.load import LoadedModel

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
_SPECIAL = (PAD, START, END)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_MODEL_TYPE = {"gemma3": "gemma3_text"}  # where the config class for text alone has another name


def tiny(
    vocab: Literal["byte"] | Sequence[str] = "byte",
    *,
    vocab_size: int = 512,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    context: int = 2048,
    architecture: str = "llama",
    seed: int = 0,
    **config: Any,
) -> LoadedModel:
    """A random model of about 100 thousand parameters (with the defaults), float32, on the CPU.

    vocab: "byte" gives one token a byte, its id the byte's value, special tokens from 256; texts give a byte-level BPE trained on
    them, of at most `vocab_size` tokens.
    hidden, layers, heads: width (a multiple of `heads`), depth, attention heads; an even number of heads share keys two by two.
    context: tokens at most.
    architecture: a model type of `transformers`: "llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "gpt_oss", ...
    seed: of the weights.  The same seed gives the same weights; the global random state is left alone.
    config: more fields of the architecture's config, such as `sliding_window=8` (16 is set for Mistral, and for Gemma and gpt-oss in
    every other layer).

    The chat format is ChatML, without a system message of its own; `eos_token` is "<|im_end|>".  Weights have deviation
    hidden**-0.5, not 0.02, so that attention is far from uniform and tests can see mistakes in it.

    >>> loaded = tiny(hidden=32, layers=1)
    >>> loaded.tokenizer.encode("Hi")
    [72, 105]
    >>> loaded.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    '<|im_start|>user\\nHi<|im_end|>\\n'
    """
    tokenizer = _byte_tokenizer() if vocab == "byte" else _bpe_tokenizer(vocab, vocab_size)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2 if heads % 2 == 0 else heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": context,
        "initializer_range": hidden**-0.5,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **_particulars(architecture, layers, hidden // heads),
        **config,
    }
    return LoadedModel(_random_model(architecture, settings, seed), tokenizer, f"tiny-{architecture}", "tiny")


def _particulars(architecture: str, layers: int, head_dim: int) -> dict[str, Any]:
    """What the defaults of `transformers` make too large for a small model: long windows, flat attention, many experts."""
    if architecture == "mistral":
        return {"sliding_window": 16}
    if architecture in ("gemma2", "gemma3"):
        kinds = ("sliding_attention", "full_attention")
        layer_types = [kinds[layer % 2] for layer in range(layers)]
        return {"sliding_window": 16, "layer_types": layer_types, "query_pre_attn_scalar": head_dim}
    if architecture == "gpt_oss":
        return {"sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
    return {}


def _random_model(architecture: str, settings: dict[str, Any], seed: int) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.for_model(_MODEL_TYPE.get(architecture, architecture), **settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which also seeds every GPU
        model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    return model


def _byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocab = {character: byte for byte, character in _byte_characters().items()}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _finished(backend)


def _bpe_tokenizer(texts: Sequence[str], size: int) -> transformers.PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size - len(_SPECIAL), initial_alphabet=alphabet, show_progress=False)
    )
    return _finished(backend)


def _finished(backend: Tokenizer) -> transformers.PreTrainedTokenizerFast:
    """With byte-level decoding, special tokens behind the vocabulary, and the chat template."""
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(_SPECIAL))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=START, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = CHATML
    return tokenizer


def _byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2): itself, or one from 256 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + index) for index, byte in enumerate(hidden)}
