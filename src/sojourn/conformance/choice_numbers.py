"""Numbers of what is trained at all and what is paid on top: filters, pairs, shaping, coefficients that follow a target."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Any

import numpy as np

from sojourn.conformance.adapter import Adapter, answerable
from sojourn.conformance.numbers import answers, near
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, StopReason

ENDS = (StopReason.TERMINATED, StopReason.TERMINATED, StopReason.TOKEN_LIMIT, StopReason.TERMINATED)
RETURNS = ([1.0, 0.0], [0.1, 0.1, 0.1], [4.0, 0.0], [0.5, 0.5], [1.0, 0.5])
"""Of five groups; their deviations are in the order third, first, fifth, and none in the others."""


def filtered(adapter: Adapter, name: str, groups: list[EpisodeGroup], expected: list[list[int]]) -> str:
    """expected: 1 for each episode that is trained, by group."""
    seen = adapter.trained(name, groups).astype(int).tolist()
    assert seen == [x for each in expected for x in each], (
        f"{name}: trained are {seen}, in groups of {[len(each) for each in expected]}"
    )
    return name


def groups_are_kept_or_dropped(adapter: Adapter) -> str:
    """DAPO drops groups of equal returns.  StarPO-S keeps a quarter, of five groups two (rounded up): those of largest deviation.
    R-Zero keeps shares of successes from 0.3 to 0.8: of 1/4, 2/4, 3/4 and 4/4 the middle ones.  Without cut answers: the
    third episode is cut at the limit of tokens, the fourth in its last answer; the second was cut in an earlier one, and is trained."""
    made = [answers(each, [1] * len(each), key=str(k)) for k, each in enumerate(RETURNS)]
    rates = [answers([0.0] * 4, [1] * 4, key=str(k), wins=[i < k for i in range(4)]) for k in range(1, 5)]
    cut = group([Script([Turn(1), Turn(1)], final=r, stop=s) for r, s in zip((1.0, 0.0, 0.5, 0.2), ENDS, strict=True)])
    for number, turn in ((1, 0), (3, 1)):
        cut.tree[cut.episodes[number].actions[turn]].stop = "length"
    questions = [
        ("dapo", made, [[1, 1], [0] * 3, [1, 1], [0, 0], [1, 1]]),
        ("starpo_s", made, [[1, 1], [0] * 3, [1, 1], [0, 0], [0, 0]]),
        ("r_zero", rates, [[0] * 4, [1] * 4, [1] * 4, [0] * 4]),
        ("overlong_masked", [cut], [[1, 1, 0, 0]]),
    ]
    return ", ".join(filtered(adapter, *question) for question in answerable(questions, lambda q: adapter.trained(q[0], q[1])))


def successes_without_flaws_are_kept(adapter: Adapter) -> str:
    """GRPO-RoC keeps 16.  Of 15 failures and 5 successes the share is 16 * 15 / 20 = 12 failures, and the 4 successes of fewest flaws;
    of 2 failures and 30 successes it is 1, but 2 of each are kept; of 16 all."""
    for losses, flaws, kept in ((15, [3, 0, 1, 9, 2], 12), (2, list(range(30)), 2), (10, [2] * 6, 10)):
        scripts = [Script([Turn(1)], success=False) for _ in range(losses)]
        scripts += [Script([Turn(1, reward={"flaws": -float(n)})], final=1.0, success=True) for n in flaws]
        seen = adapter.trained("grpo_roc", [group(scripts)])
        best = sorted(range(len(flaws)), key=lambda k, flaws=flaws: flaws[k])[: 16 - kept]  # type: ignore[misc]
        assert seen[:losses].sum() == kept, f"of {losses} failures {seen[:losses].sum()} are kept instead of {kept}"
        assert np.flatnonzero(seen[losses:]).tolist() == sorted(best), (
            f"of successes with {flaws} flaws, not the cleanest are kept"
        )
    return "16 of 20, of 32 and of 16"


def the_best_is_paired_with_the_worst(adapter: Adapter) -> str:
    """Returns 0.25 1 0 0.75: best 1 against worst 2, then 3 against 0; apart by 1 and by 0.5, so that a margin of 0.5 leaves the first.
    Actions: below a trunk the branches get what follows them, 0, 2 and 1; first actions, trunk 1 and other 3, are siblings, too."""
    four = [answers([0.25, 1.0, 0.0, 0.75], [1] * 4)]
    for margin, most, expected in ((0.0, 2, [[1, 2], [3, 0]]), (0.5, 2, [[1, 2]]), (0.0, 1, [[1, 2]])):
        seen = adapter.pairs(four, between="episodes", margin=margin, most=most).tolist()
        assert seen == expected, f"margin {margin}, at most {most}: pairs are {seen} instead of {expected}"
    branches = [Script([Turn(1), Turn(1, reward=r)]) for r in (0.0, 2.0, 1.0)]
    tree = [group([Script([Turn(1)], branches=branches), Script([Turn(2)], final=3.0)])]
    seen = sorted(adapter.pairs(tree, between="actions", margin=0.0, most=1).tolist())
    assert seen == [[3, 1], [7, 0]], f"pairs of actions are {seen} instead of [[3, 1], [7, 0]]"
    return "episodes and actions"


Formula = tuple[str, dict[str, Any], list[float]]
YES, NO = True, False


def _right(*verdicts: bool) -> Any:
    return np.array(verdicts)


LENGTHS: list[Formula] = [
    ("overlong", {"length": np.array([16000, 18432, 20480, 21000]), "limit": 20480, "buffer": 4096}, [0, -0.5, -1, -1]),
    (
        "length_exact",
        {"length": np.array([1500, 900]), "target": np.array([1200, 1200]), "correct": _right(YES, NO), "scale": 3000},
        [0.9, -0.1],
    ),
    (
        "length_max",
        {
            "length": np.array([500, 800, 1000, 1600, 500]),
            "budget": np.full(5, 1000),
            "correct": _right(YES, YES, YES, YES, NO),
            "scale": 500,
        },
        [1, 0.7, 0.5, 0, 0],
    ),
    (
        "shorter_better",
        {
            "length": np.array([100, 200, 150, 50, 90]),
            "correct": _right(NO, YES, YES, NO, NO),
            "group": np.array([0, 0, 0, 1, 1]),
            "alpha": 2,
            "beta": 0.001,
        },
        [-0.05, 1.95, 2, -0.02, -0.02],
    ),
]
CALLS: list[Formula] = [
    (
        "fewest_calls",
        {"calls": np.array([1, 4, 2, 5]), "correct": _right(NO, YES, YES, NO), "group": np.array([0, 0, 0, 1])},
        [2, 2, 2, -1],
    ),
    (
        "tool_economy",
        {"calls": np.array([2, 0, 4, 2, 3]), "fewest": np.array([0, 0, 2, 2, -1]), "smooth": 1},
        [cos(2 * pi / 5), 1, sin(2 * pi / 3), 1, 0],
    ),
]
PROPOSED: list[Formula] = [
    ("uncertainty", {"agreement": np.array([0, 0.3, 0.5, 0.8, 1]), "scale": 1}, [0, 0.6, 1, 0.4, 0]),
    (
        "learnability",
        {"success": np.array([0, 0.125, 0.5, 1, 0.5]), "valid": _right(YES, YES, YES, YES, NO)},
        [-0.5, 0.875, 0.5, -0.5, -1],
    ),
]
FOLLOWING: list[Formula] = [
    ("kl_coefficient", {"before": 0.1, "kl": 12, "target": 6, "samples": 100, "horizon": 1000}, [0.102]),
    ("kl_coefficient", {"before": 0.1, "kl": 5.4, "target": 6, "samples": 100, "horizon": 1000}, [0.099]),
    ("entropy_coefficient", {"before": 0.01, "entropy": 0.1, "target": 0.2, "step": 0.005}, [0.015]),
    ("entropy_coefficient", {"before": 0.003, "entropy": 0.3, "target": 0.2, "step": 0.005}, [0]),
    ("entropy_applied", {"coefficient": 0.01, "entropy": 0.1, "target": 0.2}, [0.01]),
    ("entropy_applied", {"coefficient": 0.01, "entropy": 0.3, "target": 0.2}, [0]),
    ("averaged_reference", {"reference": 1.0, "policy": 3.0, "rate": 0.6}, [2.2]),
    (
        "proximal_logp",
        {
            "logp": np.array([-1.7, -1.0]),
            "behaviour_logp": np.array([-2.0, -2.0]),
            "sampled": np.array([7, 9]),
            "proximal": 9,
            "current": 10,
        },
        [-1.8, -2.0],
    ),
]


def _hold(adapter: Adapter, formulas: list[Formula]) -> str:
    asked = answerable(formulas, lambda each: adapter.formula(each[0], **each[1]))
    for name, given, expected in asked:
        near(np.atleast_1d(adapter.formula(name, **given)), expected, name, 1e-6)
    return ", ".join(dict.fromkeys(name for name, *_ in asked))


def lengths_are_paid(adapter: Adapter) -> str:
    """DAPO: limit 20480, buffer 4096: nothing up to 16384, -1/2 half-way, -1 from the limit on.  L1: 300 tokens off at 3000 a point cost
    0.1; within a budget of 1000, 1/2 at it and 1/500 less for each token, from 1 to 0.  ShorterBetter: 2 for a right answer, 0.001 for
    each token off the shortest right one, 150; where none is right off the mean, 70."""
    return _hold(adapter, LENGTHS)


def calls_are_paid(adapter: Adapter) -> str:
    """OTC: none needed, m = 2: cos(2 pi / 5); n = 2 needed, m = 4: f = 2 n m / (n + m) = 8/3, sin(f pi / 4) = sin(2 pi / 3)."""
    return _hold(adapter, CALLS)


def proposed_tasks_are_paid(adapter: Adapter) -> str:
    """1 - 2 |s - 1/2|; and 1 - p, -1/2 where p is 0 or 1, -1 for no task."""
    return _hold(adapter, PROPOSED)


def coefficients_follow_their_targets(adapter: Adapter) -> str:
    """beta (1 + clip(kl / target - 1, -0.2, 0.2) n / horizon): 0.1 * 1.02, and with -0.1 0.1 * 0.99.  Entropy: up by the step below the
    target and down above it, not under 0; applied below it alone.  A reference of 1 takes over 0.6 of 3: 2.2.  Weights 7 of 10 with
    version 9 between: (9 - 7) / (10 - 7) of the way from -2 to -1.7."""
    return _hold(adapter, FOLLOWING)
