"""A batch in which the policy has moved: off-policy, off the reference, with every bound crossed by some tokens and not by others.

Five sequences of 5, 4, 3, 4 and 4 tokens.  Log-ratios to the start of the update lie on both sides of the clips for both signs of the
advantage (in ratios: 0.8, 1.2, 1.28, 1.4, 3, 4, 5, 11); their means over sequences and turns do so at a thousandth of that for
GSPO's bounds, and at six thousandths for LUSPO's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sojourn.conformance.rows import Rows
from sojourn.credit.columns import Floats

ADVANTAGE = (1.5, -0.8, 0.5, -2.0, -0.3)
LOG_RATIO = (
    (0.15, 0.22, 0.3, 0.5, 0.58),  # mean 0.35
    (-0.15, -0.3, 0.3, -1.25),  # mean -0.35
    (1.7, -0.3, 2.5),
    (1.15, 1.6, -0.6, 0.05),
    (-0.9, -0.5, -0.1, -0.42),  # mean -0.48
)
"""log pi - log pi_old."""
STALENESS = (
    (0.1, -0.2, 0.8, -1.0, 0.05),
    (1.6, 1.3, 1.9, 1.7),  # mean 1.625: a ratio of 5.08
    (-0.9, -0.5, -1.0),  # mean -0.8: a ratio of 0.45
    (0.15, -0.05, 2.0, 0.4),
    (-0.2, 0.1, -0.3, 0.2),
)
"""log pi_old - log pi_behaviour."""
OLD = (
    (-1.0, -0.8, -0.9, -1.2, -1.1),
    (-0.7, -0.5, -1.5, -0.4),
    (-2.0, -0.6, -3.0),
    (-4.2, -2.4, -0.9, -0.35),
    (-0.5, -0.7, -1.3, -1.8),
)
"""log pi_old."""
APART = (
    (0.3, -0.2, 0.5, -0.4, 0.1),
    (-0.3, 0.25, 0.4, -0.15),
    (0.6, -0.25, 0.2),
    (-0.5, 0.35, -0.1, 0.15),
    (0.45, -0.35, 0.05, 0.2),
)
"""log pi - log pi_ref."""
ENTROPY = ((0.5, 1.1, 0.2, 1.4, 0.3), (0.9, 0.4, 1.2, 0.1), (0.6, 1.6, 0.7), (0.8, 0.25, 1.7, 0.35), (1.9, 0.45, 0.55, 1.0))
TURN = ((0, 0, 0, 1, 1), (2, 3, 3, 3), (4, 4, 4), (5, 5, 6, 6), (7, 7, 7, 8))
PROMPT = (0, 0, 1, 1, 0)
PAIRS = ((0, 1), (2, 3))
WIDTH = 6
"""One column of padding at least."""


def _table(values: tuple[tuple[float, ...], ...], fill: float = 0.0) -> Floats:
    return np.array([[*row, *[fill] * (WIDTH - len(row))] for row in values], np.float64)


MASK: NDArray[np.bool_] = _table(TURN, -1) >= 0


def moved_rows(scale: float = 1.0, *, apart: bool = True) -> Rows:
    """scale: how much of `LOG_RATIO` and of `STALENESS` there is.  apart: whether the reference is another policy."""
    old, ratio, stale = _table(OLD), scale * _table(LOG_RATIO), scale * _table(STALENESS)
    gap = _table(APART) if apart else np.zeros_like(old)
    tensors = {
        "logp": old + ratio, "old_logp": old, "behaviour_logp": old - stale, "ref_logp": old + ratio - gap,
        "advantage": np.where(MASK, np.array(ADVANTAGE)[:, None], 0.0), "entropy": _table(ENTROPY),
    }  # fmt: skip
    rows = Rows(
        **{name: torch.from_numpy(values) for name, values in tensors.items()},
        mask=torch.from_numpy(MASK),
        turn=torch.from_numpy(_table(TURN, -1)).long(),
        prompt=torch.tensor(PROMPT),
        pairs=torch.tensor(PAIRS),
    )
    return replace(rows, logp=rows.logp.requires_grad_())
