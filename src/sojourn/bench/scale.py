"""Scale: what an episode costs as more are in flight, turns, contexts and trees grow; and what memory."""

from __future__ import annotations

from dataclasses import replace

from sojourn.bench.measure import Result, alternate, linear_fit, peak_mib
from sojourn.bench.ours import Loop, Shape, smollm2


def scale(result: Result, quick: bool) -> None:
    """Sampling and learning, one dimension at a time from a common base."""
    base = Shape(prompts=1, group=8, turns=2, action_tokens=16, prompt_tokens=128, observation_tokens=32)
    axes = {
        "episodes": [replace(base, prompts=n) for n in ((1, 4) if quick else (1, 2, 4, 8))],
        "turns": [replace(base, turns=n) for n in ((2, 4, 8) if quick else (2, 4, 8, 16))],
        "context": [replace(base, prompt_tokens=n) for n in ((128, 1024) if quick else (128, 512, 1024, 2048))],
        "width": [replace(base, group=n) for n in ((4, 16) if quick else (4, 8, 16, 32))],
    }
    loaded = smollm2()
    for axis, shapes in axes.items():
        for shape in shapes:
            loop = Loop(loaded, shape)
            seconds = alternate({"step": loop.step}, 1 if quick else 2)["step"]
            count = shape.prompts * shape.group
            result.add(
                {
                    "axis": axis,
                    "episodes": count,
                    "turns": shape.turns,
                    "prompt": shape.prompt_tokens,
                    "group": shape.group,
                    "step (s)": seconds,
                    "episode (s)": seconds.median / count,
                    "peak so far (MiB)": peak_mib(),
                }
            )
    turns = [row for row in result.rows if row["axis"] == "turns"]
    start, slope, explained = linear_fit([row["turns"] for row in turns], [row["episode (s)"] for row in turns])
    result.notes.append(f"seconds an episode over turns: {start:.3f} + {slope:.3f} a turn, R^2 = {explained:.3f}")
    result.ratios["scale_turns_linear_r2"] = explained
    wide = [row for row in result.rows if row["axis"] == "width"]
    result.ratios["scale_episode_cost_widest_of_narrowest"] = wide[-1]["episode (s)"] / wide[0]["episode (s)"]
