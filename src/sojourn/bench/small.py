"""Small models: how many action tokens and episodes a second, and what share of the time Python takes."""

from __future__ import annotations

import time

from torch.profiler import ProfilerActivity, profile

from sojourn.bench.measure import Result, alternate
from sojourn.bench.ours import Loop, Shape
from sojourn.models import tiny


def small(result: Result, quick: bool) -> None:
    """Rollouts of random models of one to ten million parameters with one token a byte.  The share of Python is what the profiler
    sees outside of operators, its own work included."""
    for hidden, layers in ((192, 4),) if quick else ((128, 4), (192, 4), (320, 6)):
        loaded = tiny(hidden=hidden, layers=layers, heads=4)
        parameters = sum(p.numel() for p in loaded.model.parameters()) / 1e6
        shape = Shape(prompts=16, group=16, turns=2, action_tokens=32, prompt_tokens=64, observation_tokens=16)
        loop = Loop(loaded, shape)
        seconds = alternate({"rollout": loop.rollout}, 3)["rollout"]
        began = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            loop.rollout()
            wall = time.perf_counter() - began
        operators = sum(event.self_cpu_time_total for event in seen.key_averages()) / 1e6
        result.add(
            {
                "parameters (M)": parameters,
                "action tokens/s": seconds.rate(shape.sampled),
                "episodes/s": seconds.rate(shape.prompts * shape.group),
                "Python share": 1 - operators / wall,
            }
        )
    result.ratios["small_action_tokens_per_s"] = min(result.rows, key=lambda row: abs(row["parameters (M)"] - 2))[
        "action tokens/s"
    ].median
