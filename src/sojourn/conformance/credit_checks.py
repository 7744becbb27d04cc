"""Checks of credit: change what must not matter and demand equal advantages.

Each check takes an adapter, raises `AssertionError` with what it saw, and returns a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sojourn.conformance.adapter import Adapter, NotOffered
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, StopReason

GROUPED = ("grpo", "dr_grpo", "lite_ppo", "reinforce_pp_baseline", "gigpo", "mt_grpo", "opo", "maxrl")
RETURNS = (1.0, 0.0, 0.25, 0.75)


def _scripts(returns: Sequence[float] = RETURNS, observation: int = 2) -> list[Script]:
    return [Script([Turn(2, observation=observation), Turn(1, observation=observation)], final=final) for final in returns]


def _equal(left: NDArray[np.float64], right: NDArray[np.float64], what: str, tolerance: float = 1e-5) -> None:
    assert left.shape == right.shape, f"{what}: {left.shape} and {right.shape} advantages"
    gap = float(np.abs(left - right).max(initial=0.0))
    assert gap <= tolerance, f"{what}: advantages differ by {gap:.3g}"


def offered(adapter: Adapter, algorithms: Sequence[str], groups: Sequence[EpisodeGroup]) -> list[str]:
    """Those of the algorithms that the adapter has.  Raises NotOffered if it has none."""
    reasons, kept = [], []
    for algorithm in algorithms:
        try:
            adapter.advantages(algorithm, groups)
            kept.append(algorithm)
        except NotOffered as reason:
            reasons.append(str(reason))
    if not kept:
        raise NotOffered(reasons[0])
    return kept


def observations_do_not_reach_advantages(adapter: Adapter) -> str:
    names = offered(adapter, (*GROUPED, "ppo_plain", "turn_ppo", "ragen", "step_reinforce"), [group(_scripts())])
    for name in names:
        short, long = group(_scripts(observation=1)), group(_scripts(observation=9), seed=5)
        _equal(adapter.advantages(name, [short], value=0.5), adapter.advantages(name, [long], value=0.5), name)
    return f"{len(names)} estimators, observations of 1 and of 9 tokens"


def splitting_a_turn_changes_nothing(adapter: Adapter) -> str:
    whole = [Script([Turn(4)], final=final) for final in RETURNS]
    split = [Script([Turn(1), Turn(3)], final=final) for final in RETURNS]
    names = offered(adapter, (*GROUPED[:4], "reinforce_pp_baseline", "opo", "starpo_s"), [group(whole)])
    for name in names:
        _equal(adapter.advantages(name, [group(whole)]), adapter.advantages(name, [group(split)]), name)
    return f"{len(names)} estimators at gamma = lambda = 1"


def exporting_more_contexts_leaves_statistics(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED[:4], [group(_scripts())])
    one = [Script([Turn(2), Turn(1), Turn(1)], final=1.0), Script([Turn(4)]), Script([Turn(4)])]
    three = [Script([Turn(2), Turn(1, rewrite=True), Turn(1, rewrite=True)], final=1.0), *one[1:]]
    for name in names:
        _equal(adapter.advantages(name, [group(one)]), adapter.advantages(name, [group(three)]), name)
    return f"{len(names)} estimators, one episode in 1 and in 3 contexts"


def permuting_a_group_permutes_advantages(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED, [group(_scripts())])
    order = [2, 0, 3, 1]
    for name in names:
        plain = adapter.advantages(name, [group(_scripts())]).reshape(4, 3)
        moved = adapter.advantages(name, [group([_scripts()[k] for k in order])]).reshape(4, 3)
        _equal(plain[order], moved, name)
    return f"{len(names)} estimators"


def equal_rewards_and_single_episodes_give_exactly_zero(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED, [group(_scripts())])
    for name in names:
        if name != "lite_ppo":
            alone = adapter.advantages(name, [group(_scripts([0.7]))])
            assert not alone.any(), f"{name}: a group of one gets {alone[0]:.3g} instead of 0"
        equal = adapter.advantages(name, [group(_scripts([0.1, 0.1, 0.1]))])
        assert not equal.any(), f"{name}: equal rewards get {np.abs(equal).max():.3g} instead of exactly 0"
    return f"{len(names)} estimators"


def shift_and_scale_of_rewards(adapter: Adapter) -> str:
    names = offered(adapter, ("grpo", "dr_grpo", "lite_ppo"), [group(_scripts())])
    for name in names:
        plain = adapter.advantages(name, [group(_scripts())])
        shifted = adapter.advantages(name, [group(_scripts([r + 5 for r in RETURNS]))])
        scaled = adapter.advantages(name, [group(_scripts([r * 4 for r in RETURNS]))])
        _equal(plain, shifted, f"{name}, rewards + 5")
        _equal(plain * (4 if name == "dr_grpo" else 1), scaled, f"{name}, rewards x 4", 1e-3)
    return f"{len(names)} estimators"


def an_infrastructure_failure_is_no_sample(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED, [group(_scripts())])
    broken = Script([Turn(2), Turn(1)], final=0.0, failed=True)
    for name in names:
        without = adapter.advantages(name, [group(_scripts())])
        with_it = adapter.advantages(name, [group([*_scripts(), broken])])
        assert not with_it[12:].any(), f"{name}: the broken episode is trained"
        _equal(without, with_it[:12], name)
    return f"{len(names)} estimators"


def every_turn_is_credited_for_what_follows(adapter: Adapter) -> str:
    """A reward on an observation counts for the action that caused it; the first turn feels the last reward."""
    names = offered(adapter, ("step_reinforce", "mt_grpo", "turn_ppo", "reinforce_pp_baseline"), [group(_scripts())])
    for name in names:
        on_action = [Script([Turn(2, reward=r), Turn(1, reward=1 - r)]) for r in (1.0, 0.0, 0.5)]
        on_world = [Script([Turn(2, reward=r, on_observation=True), Turn(1, reward=1 - r)]) for r in (1.0, 0.0, 0.5)]
        _equal(adapter.advantages(name, [group(on_action)]), adapter.advantages(name, [group(on_world)]), name)
        late = adapter.advantages(name, [group(_scripts([1.0, 0.0]))])
        assert late[0] > late[3], f"{name}: the first turn of the winner gets {late[0]:.3g}, that of the loser {late[3]:.3g}"
    return f"{len(names)} estimators"


def what_is_cut_bootstraps_and_what_ends_does_not(adapter: Adapter) -> str:
    names = offered(adapter, ("vine_ppo",), [group(_scripts())])
    for name in names:
        ended = adapter.advantages(name, [group([Script([Turn(2)], final=1.0)])], value=0.25, after=7.0)
        cut = adapter.advantages(name, [group([Script([Turn(2)], final=1.0, stop=StopReason.TRUNCATED)])], value=0.25, after=7.0)
        assert np.allclose(ended, 0.75), f"{name}: an ended episode gets {ended[0]:.3g} instead of 1 - V = 0.75"
        assert np.allclose(cut, 7.75), f"{name}: a cut episode gets {cut[0]:.3g} instead of 1 + V' - V = 7.75"
    return "one-step advantage with V = 0.25 and V' = 7"


def gigpo_with_unique_states_is_dr_grpo(adapter: Adapter) -> str:
    scripts = [Script([Turn(2, anchor=(i, 0)), Turn(1, anchor=(i, 1))], final=final) for i, final in enumerate(RETURNS)]
    left, right = (adapter.advantages(name, [group(scripts)]) for name in ("gigpo", "dr_grpo"))
    assert (left == right).all(), f"advantages differ by {np.abs(left - right).max():.3g}"
    return "bit for bit, both with the mean alone"
