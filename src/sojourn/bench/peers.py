"""Peers that may not be installed: each is a side, or the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from sojourn.bench.measure import Result, Side, alternate
from sojourn.bench.ours import Loop, Shape
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
        **asdict(shape),
        micro_batch=min(8, shape.prompts * shape.group),
    )
    return loop, ""


def beside_trl(result: Result, loop: Loop, what: Literal["rollout", "step"], quick: bool) -> dict[str, Any]:
    """Seconds of our loop and of TRL's, or the reason why there are none of it."""
    sides: dict[str, Side] = {"sojourn": getattr(loop, what)}
    theirs, reason = trl_loop(loop.shape)
    if theirs is None:
        result.skipped["trl"] = reason
    else:
        sides["trl"] = getattr(theirs, what)
    taken = alternate(sides, 1 if quick else 3, warm_up=0 if quick else 1)
    line: dict[str, Any] = {f"{name} (s)": seconds for name, seconds in taken.items()}
    if theirs is not None:
        line["trl / sojourn"] = taken["trl"].median / taken["sojourn"].median
    return line
