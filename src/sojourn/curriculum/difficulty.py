"""A difficulty that follows the reward, for tasks that have a number for it.  A plain function: who deals the tasks keeps the number."""

from __future__ import annotations

from math import tanh


def next_difficulty(
    difficulty: float,
    reward: float,
    *,
    goal: float = 0.5,
    sensitivity: float = 2.0,
    step: float = 50.0,
    low: float = 0.0,
    high: float = 100.0,
) -> float:
    """The difficulty to aim at after a batch whose mean reward was `reward`; the tasks nearest to it come next.

    clip(T + step tanh(sensitivity (R - goal)), low, high)      [AdaRFT, arXiv 2504.05520]

    >>> round(next_difficulty(0.0, 0.9), 4)
    33.2018
    """
    return min(max(difficulty + step * tanh(sensitivity * (reward - goal)), low), high)
