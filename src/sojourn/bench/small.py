"""Small models: how many action tokens and episodes a second, and what share of the time Python takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from sojourn.bench.measure import Result, alternate
from sojourn.bench.ours import Loop, Shape
from sojourn.engine.native import Kernels, kernels
from sojourn.engine.worker import compute
from sojourn.models import tiny


def small(result: Result, quick: bool) -> None:
    """Rollouts of random models of one to ten million parameters with one token a byte.  The share of Python is what is spent outside of
    operators and kernels, the work of measuring it included."""
    for hidden, layers in ((192, 4),) if quick else ((128, 4), (192, 4), (320, 6)):
        loaded = compute(partial(tiny, hidden=hidden, layers=layers, heads=4))
        parameters = sum(p.numel() for p in loaded.model.parameters()) / 1e6
        shape = Shape(prompts=16, group=16, turns=2, action_tokens=32, prompt_tokens=64, observation_tokens=16)
        loop = compute(partial(Loop, loaded, shape))
        seconds = alternate({"rollout": loop.rollout}, 3)["rollout"]
        began = time.perf_counter()
        everywhere = _ExperimentalConfig(profile_all_threads=True)  # operators run in the engine's thread
        with (
            profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere) as seen,
            clocked(kernels(loaded.model.dtype)) as native,
        ):
            loop.rollout()
            wall = time.perf_counter() - began
        operators = sum(event.self_cpu_time_total for event in seen.key_averages()) / 1e6 + sum(native)
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


class _Clocked:
    """A library that notes the seconds of each call of its functions."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.spent: list[float] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> None:
            began = time.perf_counter()
            getattr(self.library, name)(*arguments)
            self.spent.append(time.perf_counter() - began)

        return call


@contextmanager
def clocked(own: Kernels | None) -> Iterator[list[float]]:
    """The seconds of each call of a kernel in here, which torch's profiler does not see."""
    if own is None:
        yield []
        return
    library = own._library
    own._library = clock = _Clocked(library)  # type: ignore[assignment]
    try:
        yield clock.spent
    finally:
        own._library = library
