"""A whole optimizer step, sampling and learning, against TRL's `GRPOTrainer`."""

from __future__ import annotations

from sojourn.bench.measure import Result, Side, alternate
from sojourn.bench.ours import Loop, Shape
from sojourn.bench.peers import trl_loop
from sojourn.models import load


def step(quick: bool) -> Result:
    """Episodes of scripted lengths in groups of 8; both sides full fine-tuning in float32."""
    result = Result("step")
    for turns in (3,) if quick else (1, 3, 8):
        shape = Shape(prompts=1 if quick else 2, turns=turns, action_tokens=24)
        loop = Loop(load("smollm2-135m"), shape)
        sides: dict[str, Side] = {"sojourn": loop.step}
        theirs, reason = trl_loop(shape)
        if theirs is None:
            result.skipped["trl"] = reason
        else:
            sides["trl"] = theirs.step
        taken = alternate(sides, 1 if quick else 3, warm_up=0 if quick else 1)
        line = {"turns": turns, "episodes": shape.prompts * shape.group, "sojourn (s)": taken["sojourn"].median}
        if theirs is not None:
            line |= {"trl (s)": taken["trl"].median, "trl / sojourn": taken["trl"].median / taken["sojourn"].median}
            result.ratios[f"step_vs_trl_turns{turns}"] = float(line["trl / sojourn"])
        result.rows.append(line)
    return result
