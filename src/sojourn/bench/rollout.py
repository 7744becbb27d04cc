"""Rollouts: what a multi-turn episode costs as its turns and its group grow, ours and in TRL's loop."""

from __future__ import annotations

from dataclasses import replace

from sojourn.bench.measure import Result, Side, alternate, linear_fit
from sojourn.bench.ours import Loop, Shape
from sojourn.bench.peers import trl_loop
from sojourn.models import load


def rollout(quick: bool) -> Result:
    """Scripted lengths: both sides sample the same number of tokens a turn, and the world says as many."""
    result = Result("rollout")
    base = Shape(
        group=4 if quick else 8, action_tokens=16 if quick else 32, prompt_tokens=128 if quick else 256, observation_tokens=32
    )
    for turns in (1, 4, 8) if quick else (1, 2, 4, 8, 16):
        _compare(result, replace(base, turns=turns), quick)
    _fit(result, len(result.rows))
    by_turns = len(result.rows)
    for group in (1, 8) if quick else (1, 4, 8, 16):
        _compare(result, replace(base, turns=1, group=group), quick)
    # of one turn all but the last sampled token is computed, and the prompt
    prompts = {row["group"]: row["computed"] - row["group"] * (base.action_tokens - 1) for row in result.rows[by_turns:]}
    result.notes.append(f"prompt tokens computed, by size of the group: {prompts}")
    result.ratios["prompt_cost_of_largest_group"] = max(prompts.values()) / min(prompts.values())
    return result


def _compare(result: Result, shape: Shape, quick: bool) -> None:
    loop = Loop(load("smollm2-135m"), shape)
    sides: dict[str, Side] = {"sojourn": loop.rollout}
    theirs, reason = trl_loop(shape)
    if theirs is None:
        result.skipped["trl"] = reason
    else:
        sides["trl"] = theirs.rollout
    taken = alternate(sides, 1 if quick else 3, warm_up=0 if quick else 1)
    before = loop.engine.computed_tokens
    loop.rollout()
    computed = loop.engine.computed_tokens - before
    line = {"turns": shape.turns, "group": shape.group, "computed": computed, "sojourn (s)": taken["sojourn"].median}
    if theirs is not None:
        line |= {"trl (s)": taken["trl"].median, "trl / sojourn": taken["trl"].median / taken["sojourn"].median}
        result.ratios[f"rollout_vs_trl_turns{shape.turns}_group{shape.group}"] = float(line["trl / sojourn"])
        if shape.turns == 8:
            result.ratios["rollout_vs_trl_turns8"] = float(line["trl / sojourn"])
    result.rows.append(line)


def _fit(result: Result, rows: int) -> None:
    """How cost grows with turns."""
    chosen = result.rows[:rows]
    for side in ("sojourn (s)", "trl (s)"):
        if side in chosen[0]:
            start, slope, explained = linear_fit([row["turns"] for row in chosen], [row[side] for row in chosen])
            result.notes.append(f"{side}: {start:.2f} + {slope:.2f} a turn, R^2 = {explained:.3f}")
            if side.startswith("sojourn"):
                result.ratios["rollout_linear_r2"] = explained
