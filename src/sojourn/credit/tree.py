r"""Credit for trees of answers: several continuations of one prefix, compared where they part.

TreeRPO    V_s = mean of the children's V;   A_s = (V_s - mu) / sqrt(mu (1 - mu)),  mu = mean over siblings   [arXiv 2506.05183]
TreePO     A_s = mean over the prefixes a above s of (V_s - V_a),  V = mean over the leaves below              [arXiv 2508.17445]
ARPO       leaf against the group's leaves; a shared action gets the mean ("hard") or the sum ("soft") over the leaves
           below it, the sum being what training every leaf's whole path would give                          [arXiv 2507.19849]

An example: two actions of the policy, a and b; after a the episode parts into c, which earns 1, and d, which earns 0; b earns 0.

                 V          TreeRPO: against siblings                TreePO: against the prefixes above
    /-- a        1/2        mu = 1/4: (1/2 - 1/4) / sqrt(3/16)       1/2 - 1/3
    |   |-- c    1          mu = 1/2: (1 - 1/2) / (1/2) = 1          mean of 1 - 1/3 and 1 - 1/2
    |   \-- d    0          -1                                       mean of 0 - 1/3 and 0 - 1/2
    \-- b        0          (0 - 1/4) / sqrt(3/16)                   0 - 1/3

V of TreeRPO is the mean over children, so that the root is worth 1/4; that of TreePO the mean over leaves, so that it is worth 1/3.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats
from sojourn.credit.group import Normaliser, anchor
from sojourn.credit.ranges import checked
from sojourn.credit.steps import action_returns, buckets


@checked
class TreeRPO:
    """Each action against its siblings, scaled by the deviation of a coin with their mean.  Returns lie in [0, 1]."""

    formula: ClassVar[str] = (
        "A_s = (V_s - mu) / sqrt(mu (1 - mu)),  mu = mean(V | siblings),  V_s = r_s + mean(V | children of s)"
    )

    def __call__(self, columns: Columns) -> Floats:
        value, siblings = action_returns(columns, 1.0), buckets(columns, "siblings")
        valid = columns.valid_E[columns.episode_S]
        centred = Normaliser(deviation="none")(value, siblings, valid)
        mu = value - centred
        variance = mu * (1 - mu)
        if (variance[centred != 0] <= 0).any():
            raise ValueError("TreeRPO: returns must lie in [0, 1]; scale the reward, or use StepRelative(bucket='siblings')")
        return columns.spread(np.where(centred == 0, 0.0, centred / np.sqrt(np.where(centred == 0, 1.0, variance))))


def path_returns(columns: Columns) -> Floats:
    """What was earned on the path up to and with each action, shape (S,); on leaves the final reward is in."""
    result = columns.earned_S.copy()
    for row in columns.order_S.tolist():
        if columns.parent_S[row] >= 0:
            result[row] += result[columns.parent_S[row]]
    return result


def below(columns: Columns, leaf_value_S: Floats) -> tuple[Floats, Floats]:
    """Sum of a leaf value over the valid leaves below each action, and their number.  Shapes (S,)."""
    counted = counted_leaves(columns)
    total, count = np.where(counted, leaf_value_S, 0.0), counted.astype(np.float64)
    for row in columns.order_S[::-1].tolist():
        if columns.parent_S[row] >= 0:
            total[columns.parent_S[row]] += total[row]
            count[columns.parent_S[row]] += count[row]
    return total, count


def counted_leaves(columns: Columns) -> Bools:
    return columns.leaf_S & columns.valid_E[columns.episode_S]


@checked
class LeafRelative:
    """Advantage of each leaf among the group's leaves, handed up the tree.  With no forks this is `GroupRelative`."""

    shared: Literal["hard", "soft"] = "soft"
    """"hard": a shared action counts once; "soft": once for each leaf below it."""
    normaliser: Normaliser = Normaliser()
    """How leaves are compared."""

    @property
    def formula(self) -> str:
        gathered = "sum" if self.shared == "soft" else "mean"
        return f"A_s = {gathered}(A | leaves below s)\nA_leaf = {self.normaliser.formula('R_leaf', group='leaves of the group')}"

    def __call__(self, columns: Columns) -> Floats:
        leaf = self.normaliser(path_returns(columns), columns.group_S, counted_leaves(columns))
        total, count = below(columns, leaf)
        return columns.spread(total if self.shared == "soft" else total / np.maximum(count, 1.0))


@checked
class TreePO:
    """Each action's value against the value of every prefix above it, the empty one included, averaged over them."""

    formula: ClassVar[str] = "A_s = mean(V_s - V_a | prefixes a above s),  V_s = mean(R | leaves below s)"

    def __call__(self, columns: Columns) -> Floats:
        counted, returns = counted_leaves(columns), path_returns(columns)
        returns = returns - anchor(returns, columns.group_S, counted)
        total, count = below(columns, returns)
        value = total / np.maximum(count, 1.0)
        whole = np.bincount(columns.group_S, np.where(counted, returns, 0.0))
        above = (whole / np.maximum(np.bincount(columns.group_S, counted), 1.0))[columns.group_S]
        gap, depth = np.zeros(len(value)), np.ones(len(value))
        for row in columns.order_S.tolist():
            parent = columns.parent_S[row]
            if parent >= 0:
                above[row], depth[row] = above[parent] + value[parent], depth[parent] + 1
            gap[row] = value[row] - above[row] / depth[row]
        return columns.spread(gap)
