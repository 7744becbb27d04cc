"""Chat templates, written in the manner of well-known models, and a small tokenizer that carries one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
    "<|header|>", "<|/header|>", "<|eot|>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip

TEMPLATES = {
    # SmolLM2: ChatML that prints any role, with a default system prompt.
    "chatml": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # Qwen 2.5: ChatML that describes tools itself and gathers tool results in one user turn.
    "qwen": (
        "<|im_start|>system\n{{ messages[0].content if messages[0].role == 'system' else 'Be kind.' }}"
        "{% if tools %}\n\n# Tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
        "Answer with <tool_call>\n{...}\n</tool_call>{% endif %}<|im_end|>\n"
        "{% for m in messages %}"
        "{% if m.role in ('user', 'assistant') %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% elif m.role == 'tool' %}"
        "{% if messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
        "{{ '\n<tool_response>\n' + m.content }}\n</tool_response>"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # Llama 3: begin of text, headers, contents trimmed, tools answer in a role of their own.
    "llama3": (
        "{{ bos_token }}{% for m in messages %}"
        "<|header|>{{ 'ipython' if m.role == 'tool' else m.role }}<|/header|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}"
    ),
    # Gemma 2: refuses system messages and whatever does not alternate.
    "gemma": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    # Qwen 3: removes the thinking of answers before the last question, keeps it while tools are at work.
    "thinking": (
        "{% set ns = namespace(last=-1) %}{% for m in messages %}"
        "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n"
        "{% if m.role == 'tool' %}<tool_response>{{ m.content }}</tool_response>"
        "{% elif m.role == 'assistant' and loop.index0 < ns.last %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # Phi 3: closes a conversation that it is not asked to continue with the end-of-text token.
    "phi": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    ),
    # Mistral: no generation prompt, a space before an answer, alternating roles.
    "mistral": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
        "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Plain text: no special tokens, and add_generation_prompt is not looked at.
    "plain": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
}

MakeTokenizer = Callable[[str], PreTrainedTokenizerBase]


@cache
def build(template: str) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with the chat template of that name, or that source; made once."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend(), bos_token="<bos>", eos_token="<eos>", chat_template=TEMPLATES.get(template, template)
    )


@cache
def backend() -> Tokenizer:
    """A few merges, so that a text has several encodings."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(SPECIAL),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(["the answer is the sum of the numbers, and then the user asks again"] * 4, trainer)
    return trained


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    return build
