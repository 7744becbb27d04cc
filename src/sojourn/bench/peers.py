"""Peers that may not be installed: each is a side, or the reason why there is none."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sojourn.bench.ours import Shape
from sojourn.models import load

if TYPE_CHECKING:
    from sojourn.bench.trl import TrlLoop


def trl_loop(shape: Shape) -> tuple[TrlLoop | None, str]:
    """TRL's loop over episodes of this shape."""
    if find_spec("trl") is None:
        return None, "not installed (pip install trl==1.16.0)"
    from sojourn.bench.trl import TrlLoop

    loaded = load("smollm2-135m")
    loop = TrlLoop(
        loaded.model,
        loaded.tokenizer,
        prompts=shape.prompts,
        group=shape.group,
        turns=shape.turns,
        action_tokens=shape.action_tokens,
        prompt_tokens=shape.prompt_tokens,
        observation_tokens=shape.observation_tokens,
        micro_batch=min(8, shape.prompts * shape.group),
    )
    return loop, ""
