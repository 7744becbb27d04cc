"""A whole optimizer step, sampling and learning, against TRL's `GRPOTrainer`."""

from __future__ import annotations

from sojourn.bench.measure import Result
from sojourn.bench.ours import Loop, Shape
from sojourn.bench.peers import beside_trl
from sojourn.models import load


def step(quick: bool) -> Result:
    """Episodes of scripted lengths in groups of 8; both sides full fine-tuning in float32."""
    result = Result("step")
    for turns in (3,) if quick else (1, 3, 8):
        shape = Shape(prompts=1 if quick else 2, turns=turns, action_tokens=24)
        seconds = beside_trl(result, Loop(load("smollm2-135m"), shape), "step", quick)
        if "trl / sojourn" in seconds:
            result.ratios[f"step_vs_trl_turns{turns}"] = seconds["trl / sojourn"]
        result.rows.append({"turns": turns, "episodes": shape.prompts * shape.group} | seconds)
    return result
