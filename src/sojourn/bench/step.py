"""A whole optimizer step, sampling and learning, against TRL's `GRPOTrainer`."""

from __future__ import annotations

from sojourn.bench.measure import Result
from sojourn.bench.ours import Loop, Shape, smollm2
from sojourn.bench.peers import beside_trl


def step(result: Result, quick: bool) -> None:
    """A group of 8 episodes of scripted lengths; full fine-tuning, ours in the precision that this machine trains in, TRL in each."""
    for turns in (3,) if quick else (3, 8):
        shape = Shape(turns=turns, action_tokens=24)
        seconds = beside_trl(result, Loop(smollm2(), shape), "step", quick)
        if "trl / sojourn" in seconds:
            result.ratios[f"step_vs_trl_turns{turns}"] = seconds["trl / sojourn"]
        result.add({"turns": turns, "episodes": shape.prompts * shape.group} | seconds)
