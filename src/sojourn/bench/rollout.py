"""Rollouts: what a multi-turn episode costs as its turns and its group grow, ours and in TRL's loop, and as siblings say the same."""

from __future__ import annotations

from dataclasses import replace

from sojourn.bench.measure import Result, alternate, linear_fit
from sojourn.bench.ours import Loop, Shape, smollm2
from sojourn.bench.peers import beside_trl


def rollout(result: Result, quick: bool) -> None:
    """Scripted lengths: both sides sample the same number of tokens a turn, and the world says as many."""
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
    _siblings(result, replace(base, turns=3, group=16 if quick else 64, action_tokens=16, observation_tokens=128), quick)


def _compare(result: Result, shape: Shape, quick: bool) -> None:
    loop = Loop(smollm2(), shape)
    seconds = beside_trl(result, loop, "rollout", quick)
    if "trl / sojourn" in seconds:
        result.ratios[f"rollout_vs_trl_turns{shape.turns}_group{shape.group}"] = seconds["trl / sojourn"]
        if shape.turns == 8:
            result.ratios["rollout_vs_trl_turns8"] = seconds["trl / sojourn"]
    result.add({"turns": shape.turns, "group": shape.group, "computed": loop.computed_tokens} | seconds)


def _siblings(result: Result, shape: Shape, quick: bool) -> None:
    """What later turns cost when none, half and all of a group's episodes say the same."""
    loops = {equal: Loop(smollm2(), shape, equal=equal) for equal in (0.0, 0.5, 1.0)}
    taken = alternate({f"{equal:g}": loop.rollout for equal, loop in loops.items()}, 1 if quick else 2)
    for (equal, loop), seconds in zip(loops.items(), taken.values(), strict=True):
        row = {"turns": shape.turns, "group": shape.group, "computed": loop.computed_tokens, "sojourn (s)": seconds}
        result.notes.append(
            f"{shape.group} siblings, {shape.turns} turns, share that say the same {equal:g}: {loop.computed_tokens} tokens computed, {seconds} s"
        )
        result.ratios[f"rollout_equal_siblings_{equal:g}"] = taken["0"].median / seconds.median
        result.add({name: row.get(name, "-") for name in result.rows[0]})


def _fit(result: Result, rows: int) -> None:
    """How cost grows with turns."""
    chosen = result.rows[:rows]
    for side in ("sojourn (s)", "trl float32 (s)", "trl bfloat16 (s)"):
        if side in chosen[0]:
            start, slope, explained = linear_fit([row["turns"] for row in chosen], [row[side].median for row in chosen])
            result.notes.append(f"{side}: {start:.2f} + {slope:.2f} a turn, R^2 = {explained:.3f}")
            if side.startswith("sojourn"):
                result.ratios["rollout_linear_r2"] = explained
