"""Preference pairs from episode groups: the better against the worse of the same task.

Pairs are rows `(chosen, rejected)` of episodes, or of actions sampled after the same prefix (Step-DPO, arXiv 2406.18629).
"""

from __future__ import annotations

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats, Ints
from sojourn.credit.steps import action_returns, buckets


def episode_pairs(columns: Columns, *, margin: float = 0.0, most: int = 1) -> Ints:
    """Best against worst, second best against second worst, and so on.  Shape (P, 2), rows of the E axis.

    margin: returns must differ by more than this.  most: pairs at most for each group.
    """
    return _pairs(columns.return_E, columns.group_E, columns.valid_E & (_said(columns) > 0), margin, most)


def length_pairs(columns: Columns) -> Ints:
    """The shortest right episode of each group against its longest right one, where these differ in length.  Shape (P, 2), rows of the E
    axis.  [LCPO, arXiv 2508.10164]"""
    length_E = _said(columns)
    right = columns.valid_E & columns.success_E & (length_E > 0)
    return _pairs(-length_E.astype(np.float64), columns.group_E, right, margin=0.0, most=1)


def action_pairs(columns: Columns, *, margin: float = 0.0, most: int = 1) -> Ints:
    """The same among sibling actions, by the mean return of what followed.  Shape (P, 2), rows of the S axis."""
    valid = columns.valid_E[columns.episode_S]
    return _pairs(action_returns(columns, 1.0), buckets(columns, "siblings"), valid, margin, most)


def _said(columns: Columns) -> Ints:
    """Tokens of each episode that are compared: all that are trained, those of a data set's answers, too, which nobody sampled."""
    tokens_S = np.where(columns.trained_S, columns.length_S, 0)
    return np.bincount(columns.episode_S, tokens_S, len(columns.final_E)).astype(np.int64)


def _pairs(value_N: Floats, bucket_N: Ints, valid_N: Bools, margin: float, most: int) -> Ints:
    pairs: list[tuple[int, int]] = []
    for bucket in np.unique(bucket_N[valid_N]):
        mine = np.flatnonzero(valid_N & (bucket_N == bucket))
        order = mine[np.argsort(-value_N[mine], kind="stable")]
        ends = zip(order[: len(order) // 2].tolist(), order[::-1].tolist(), strict=False)
        pairs += [(good, bad) for good, bad in ends if value_N[good] - value_N[bad] > margin][:most]
    return np.array(pairs, np.int64).reshape(-1, 2)
