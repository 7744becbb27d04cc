"""Checks of credit: change what must not matter and demand equal advantages.

Each check takes an adapter, raises `AssertionError` with what it saw, and returns a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sojourn.conformance.adapter import Adapter, answerable
from sojourn.conformance.algorithms import GROUPED, OVER_ACTIONS, SCALED, VALUED, WHITENED
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, Standing

RETURNS = (1.0, 0.0, 0.25, 0.75)
FORKED = Script([Turn(2)], branches=[Script([Turn(1)]), Script([Turn(2)]), Script([Turn(1)])])


def scripts(returns: Sequence[float] = RETURNS, observation: int = 2) -> list[Script]:
    return [Script([Turn(2, observation=observation), Turn(1, observation=observation)], final=final) for final in returns]


def evenly(played: Sequence[Script], *, seed: int = 0) -> EpisodeGroup:
    """A group whose tokens were all equally likely: what reads log-probabilities sees the same in every layout."""
    made = group(played, seed=seed)
    for span in made.tree.spans:
        if span.logprobs is not None:
            span.logprobs = np.full(len(span.tokens), -0.5, np.float32)
    return made


def equal(left: NDArray[np.float64], right: NDArray[np.float64], what: str, tolerance: float = 1e-5) -> None:
    assert left.shape == right.shape, f"{what}: {left.shape} and {right.shape} advantages"
    gap = float(np.abs(left - right).max(initial=0.0))
    assert gap <= tolerance, f"{what}: advantages differ by {gap:.3g}"


def offered(adapter: Adapter, algorithms: Iterable[str]) -> list[str]:
    """Those of the algorithms that the adapter has.  Raises NotOffered if it has none."""
    return answerable(algorithms, lambda algorithm: adapter.advantages(algorithm, [group(scripts())]))


def observations_do_not_reach_advantages(adapter: Adapter) -> str:
    names = offered(adapter, (*GROUPED, *VALUED, "step_reinforce", "reinforce_pp"))
    for name in names:
        short, long = evenly(scripts(observation=1)), evenly(scripts(observation=9), seed=5)
        equal(adapter.advantages(name, [short], value=0.5), adapter.advantages(name, [long], value=0.5), name)
    return f"{len(names)} estimators, observations of 1 and of 9 tokens"


def splitting_a_turn_changes_nothing(adapter: Adapter) -> str:
    asked = [name for name in GROUPED if name not in OVER_ACTIONS] + ["starpo_s", "reinforce_pp", "impala"]
    whole = evenly([Script([Turn(4)], final=final) for final in RETURNS])
    split = evenly([Script([Turn(1), Turn(3)], final=final) for final in RETURNS])
    names = offered(adapter, asked)
    for name in names:
        equal(adapter.advantages(name, [whole], value=0.5), adapter.advantages(name, [split], value=0.5), name)
    return f"{len(names)} estimators at gamma = lambda = 1"


def exporting_more_contexts_leaves_statistics(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED)
    rest = [Script([Turn(4)], final=0.25), Script([Turn(3)])]
    one = evenly([Script([Turn(2), Turn(1), Turn(1)], final=1.0), *rest])
    three = evenly([Script([Turn(2), Turn(1, rewrite=True), Turn(1, rewrite=True)], final=1.0), *rest])
    for name in names:
        equal(adapter.advantages(name, [one]), adapter.advantages(name, [three]), name)
    return f"{len(names)} estimators, one episode in 1 and in 3 contexts"


def permuting_a_group_permutes_advantages(adapter: Adapter) -> str:
    names, made, order = offered(adapter, GROUPED), group(scripts()), [2, 0, 3, 1]
    other = EpisodeGroup(made.key, made.task, made.tree, [made.episodes[k] for k in order])
    for name in names:
        plain, moved = (adapter.advantages(name, [each]).reshape(4, 3) for each in (made, other))
        equal(plain[order], moved, name)
    return f"{len(names)} estimators"


def equal_rewards_give_exactly_zero(adapter: Adapter) -> str:
    """Episodes of different lengths, some of them trees."""
    names = offered(adapter, GROUPED)
    shapes = [FORKED, Script([Turn(1), Turn(2)]), Script([Turn(3)])]
    for name in names:
        for final in (0.1, 0.7, 1 / 3):
            played = [Script(shape.turns, final=final, branches=shape.branches) for shape in shapes]
            for copies in (1, 2):
                seen = adapter.advantages(name, [group(played * copies)])
                assert not seen.any(), f"{name}: equal rewards of {final:.2g} get {np.abs(seen).max():.3g} instead of exactly 0"
    return f"{len(names)} estimators, 3 and 6 episodes of different shapes"


def a_group_of_one_gives_exactly_zero(adapter: Adapter) -> str:
    names = offered(adapter, GROUPED)
    alone, others = group(scripts([0.7])), group(scripts(), key="h")
    for name in names:
        for batch in ([alone],) if name in WHITENED else ([alone], [alone, others]):
            seen = adapter.advantages(name, batch)[:3]
            assert not seen.any(), f"{name}: a group of one gets {seen[0]:.3g} instead of 0"
    return (
        f"{len(names)} estimators, alone and beside another group ({' and '.join(WHITENED)} centre again over the batch: alone)"
    )


def shift_and_scale_of_rewards(adapter: Adapter) -> str:
    names, plain = offered(adapter, SCALED), group(scripts())
    shifted, scaled = group(scripts([r + 5 for r in RETURNS])), group(scripts([r * 4 for r in RETURNS]))
    for name in names:
        before = adapter.advantages(name, [plain])
        assert before.any(), f"{name}: no advantage at all"
        equal(before, adapter.advantages(name, [shifted]), f"{name}, rewards + 5")
        equal(before * SCALED[name], adapter.advantages(name, [scaled]), f"{name}, rewards x 4", 1e-3)
    return f"{len(names)} estimators"


def an_infrastructure_failure_is_no_sample(adapter: Adapter) -> str:
    names, broken = offered(adapter, GROUPED), Script([Turn(2), Turn(1)], final=0.9, failed=True)
    without, with_it = evenly(scripts()), evenly([*scripts()[:2], broken, *scripts()[2:]])
    for name in names:
        seen = adapter.advantages(name, [with_it])
        assert not seen[6:9].any(), f"{name}: the broken episode is trained"
        equal(adapter.advantages(name, [without]), np.concatenate([seen[:6], seen[9:]]), name)
    return f"{len(names)} estimators"


def a_failure_means_what_its_class_says(adapter: Adapter) -> str:
    """One of five episodes of a group broke.  No result: the others are compared as if it were not there.  Complete but unusable: as if
    nothing had happened, but it is not trained.  Degraded but real: as if nothing had happened, and it is trained."""
    names, place = offered(adapter, GROUPED), slice(6, 9)
    sound = Script([Turn(2), Turn(1)], final=0.9)
    whole, without = (evenly([*scripts()[:2], *broken, *scripts()[2:]]) for broken in ([sound], []))
    for standing, trained in ((Standing.DEGRADED, True), (Standing.UNUSABLE, False), (Standing.NO_RESULT, False)):
        broken = replace(sound, failed=True, standing=standing)
        made = [evenly([*scripts()[:2], broken, *scripts()[2:]])]
        learned = adapter.trained("grpo", made).tolist()
        assert learned == [True, True, trained, True, True], f"{standing.name.lower()}: trained are {learned}"
        for name in names:
            seen, expected = np.delete(adapter.advantages(name, made), place), adapter.advantages(name, [without])
            if standing is not Standing.NO_RESULT:
                expected = np.delete(adapter.advantages(name, [whole]), place)
            equal(seen, expected, f"{name}, {standing.name.lower()}")
    return f"{len(names)} estimators; degraded, unusable, no result"
