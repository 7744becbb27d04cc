"""Peers that may not be installed: each is a side, or the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from sojourn.bench.measure import Result, Side, alternate
from sojourn.bench.ours import Loop, Shape, own_precision, smollm2

if TYPE_CHECKING:
    from sojourn.bench.trl import TrlLoop


PRECISIONS = ("float32", "bfloat16")
"""Those that TRL takes a whole step in; its better one counts.  Elsewhere it runs in ours alone."""


def has_trl(result: Result) -> bool:
    """Whether TRL is installed; `result` gets to know if not."""
    if find_spec("trl") is None:
        result.skipped["trl"] = "not installed (pip install trl==1.16.0)"
    return "trl" not in result.skipped


def trl_loop(shape: Shape, dtype: str) -> TrlLoop:
    """TRL's loop over episodes of this shape."""
    from sojourn.bench.trl import TrlLoop

    loaded = smollm2(dtype)
    return TrlLoop(
        loaded.model,
        loaded.tokenizer,
        **asdict(shape),
        micro_batch=min(8, shape.prompts * shape.group),
    )


def beside_trl(result: Result, loop: Loop, what: Literal["rollout", "step"], quick: bool) -> dict[str, Any]:
    """Seconds of our loop, and of TRL's, or the reason why there are none of it."""
    sides: dict[str, Side] = {"sojourn": getattr(loop, what)}
    if loop.shape.group == 1:
        result.skipped["trl for groups of one"] = "it takes two episodes a prompt at least"
    elif has_trl(result):
        precisions = PRECISIONS if what == "step" else (own_precision(),)
        sides |= {f"trl {dtype}": getattr(trl_loop(loop.shape, dtype), what) for dtype in precisions}
    taken = alternate(sides, 1 if quick else 2)
    line: dict[str, Any] = {f"{name} (s)": seconds for name, seconds in taken.items()}
    if len(taken) > 1:
        line["trl / sojourn"] = (
            min(seconds.median for name, seconds in taken.items() if name != "sojourn") / taken["sojourn"].median
        )
    return line
