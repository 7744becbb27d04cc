"""Reward shaping: lengths, tool calls and proposed tasks.  Plain functions of arrays; one entry for each episode.

A run adds what they return as named terms, before filters and credit:

    shaping={"overlong": lambda groups, columns: overlong(columns.length_E, limit=20480, buffer=4096)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from sojourn.core import EpisodeGroup
from sojourn.credit.columns import Bools, Columns, Floats, Ints
from sojourn.credit.ranges import above_zero

Shaping: TypeAlias = Callable[[Sequence[EpisodeGroup], Columns], Floats]
"""What each episode is paid on top at its end, shape (E,); the groups hold the tasks, where a target is asked for."""


def shaped(groups: Sequence[EpisodeGroup], columns: Columns, terms: Mapping[str, Shaping]) -> Columns:
    """`columns` of `groups` with further terms of the final reward.  Raises `ValueError` for a name that is taken."""
    paid = {name: term(groups, columns) for name, term in terms.items()}
    if taken := paid.keys() & columns.terms_E.keys():
        raise ValueError(f"shaping: the environment pays a term '{min(taken)}' already; give yours another name")
    for name, value in paid.items():
        if np.shape(value) != columns.final_E.shape or not np.isfinite(np.asarray(value, np.float64)[columns.valid_E]).all():
            raise ValueError(
                f"shaping '{name}' gave {value!r}: give one finite number for each of {len(columns.final_E)} episodes"
            )
    return replace(columns, final_E=columns.final_E + sum(paid.values()), terms_E={**columns.terms_E, **paid})


def overlong(length_E: Ints, *, limit: int, buffer: int) -> Floats:
    """Penalty of answers that come near the limit: 0, then falling to -1 over the last `buffer`.  [DAPO, 2503.14476, eq. 13]

    >>> overlong(np.array([16000, 18432, 20480]), limit=20480, buffer=4096)
    array([ 0. , -0.5, -1. ])
    """
    above_zero("overlong", buffer=buffer)
    penalty: Floats = np.clip((limit - buffer - length_E) / buffer, -1.0, 0.0)
    return penalty


def length_exact(length_E: Ints, target_E: Ints, correct_E: Bools, *, scale: float = 3000.0) -> Floats:
    """Reward for a right answer of the length that was asked for; one less if it is wrong.  [L1-Exact, 2503.04697, eq. 1]

    `scale`: tokens of deviation that cost a reward of 1.
    """
    above_zero("length_exact", scale=scale)
    reward: Floats = correct_E - np.abs(length_E - target_E) / scale
    return reward


def length_max(length_E: Ints, budget_E: Ints, correct_E: Bools, *, scale: float = 500.0) -> Floats:
    """Reward for a right answer within a budget: 0.5 at the budget, 1 and 0 `scale` tokens below and above.  [L1-Max, eq. 2; code]"""
    above_zero("length_max", scale=scale)
    return (np.clip((budget_E - length_E) / scale, -1.0, 1.0) + 1) / 2 * correct_E


def shorter_better(length_E: Ints, correct_E: Bools, group_E: Ints, *, alpha: float = 2.0, beta: float = 0.001) -> Floats:
    """alpha correct - beta |length - L*|, L* the shortest right answer of the group, else the mean.  [2504.21370]"""
    reward = np.zeros(len(length_E))
    for group in np.unique(group_E):
        mine = group_E == group
        right = length_E[mine & correct_E]
        best = right.min() if len(right) else length_E[mine].mean()
        reward[mine] = alpha * correct_E[mine] - beta * np.abs(length_E[mine] - best)
    return reward


def key_steps(matched_E: Floats, correct_E: Bools, *, alpha: float = 0.1) -> Floats:
    """Partial credit for an answer by the share of the task's key steps that it contains, a right answer on top: correct + alpha matched.
    [StepRAR of R1-VL, 2503.12937]

    >>> key_steps(np.array([0.5, 1.0]), np.array([True, False]))
    array([1.05, 0.1 ])
    """
    reward: Floats = correct_E + alpha * matched_E
    return reward


def fewest_calls(calls_E: Ints, correct_E: Bools, group_E: Ints) -> Ints:
    """Fewest tool calls of a right answer in each episode's group; -1 where no answer is right."""
    fewest = np.full(len(calls_E), -1, np.int64)
    for group in np.unique(group_E[correct_E]):
        fewest[group_E == group] = calls_E[correct_E & (group_E == group)].min()
    return fewest


def tool_economy(calls_E: Ints, fewest_E: Ints, *, smooth: float = 1.0) -> Floats:
    """Factor on the reward of a right answer, 1 at the fewest calls `n` that suffice.  [OTC-GRPO, 2504.14870]

        n = 0:  cos(m pi / (2 m + c))          n > 0:  sin(f pi / (2 n)),  f = 2 n m / (n + m)

    Multiply it by correctness.  `fewest_E` may be remembered over epochs; -1 (nobody was right) gives 0.
    """
    above_zero("tool_economy", smooth=smooth)
    m, n = calls_E.astype(np.float64), fewest_E.astype(np.float64)
    none_needed = np.cos(m * np.pi / (2 * m + smooth))
    some = np.where(n > 0, n, 1.0)
    some_needed = np.sin(m / (some + m) * np.pi)
    return np.where(n < 0, 0.0, np.where(n == 0, none_needed, some_needed))


def uncertainty(agreement_E: Floats, *, scale: float = 1.0) -> Floats:
    """Reward of a proposed task by how unsure its solver is: 1 - 2 |s - 1/2|, s the share of its commonest answer.
    [R-Zero, 2508.05004; its code pays half, min(s, 1 - s), which is `scale` 0.5]
    """
    return scale * (1 - 2 * np.abs(agreement_E - 0.5))


def learnability(success_E: Floats, valid_E: Bools) -> Floats:
    """Reward of a proposed task by its solver's share of right answers p: 1 - p, -0.5 if it is 0 or 1, -1 if the task is no task.
    [Absolute Zero, 2505.03335, official code]
    """
    taught = np.where((success_E > 0) & (success_E < 1), 1 - success_E, -0.5)
    return np.where(valid_E, taught, -1.0)
