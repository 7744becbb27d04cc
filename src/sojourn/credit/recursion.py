r"""The backward recursion of returns and of advantages, on a tree.

    x_t = delta_t + decay_t * x_{t+1}

With delta_t = r_t + gamma V_{t+1} - V_t and decay gamma lambda, x is GAE.  [arXiv 1506.02438, eq. 16]

Within an action the next token is the next one.  After its last token comes the first token of the next action on the path, with
whatever the world said in between skipped; where the tree forks it is the mean over the children; at a leaf there is none.  So
nothing leaks from observations, and nothing crosses from one branch to a parallel one.

    a1 a2 --obs-- b1          x(b1) = delta(b1)          x(c1) = delta(c1) + decay x(c2)
            \----- c1 c2      x(a2) = delta(a2) + decay (x(b1) + x(c1)) / 2
"""

from __future__ import annotations

import numpy as np

from sojourn.credit.columns import Columns, Floats


def backward_tokens(columns: Columns, delta_T: Floats, decay_T: Floats) -> Floats:
    """Solve the recursion over tokens.  Shapes (T,)."""
    delta, decay, start = delta_T.tolist(), decay_T.tolist(), columns.start_S.tolist()
    result = np.zeros(len(delta))
    following = _Children(columns)
    for row in columns.order_S[::-1].tolist():
        x = following.mean(row)
        for t in range(start[row + 1] - 1, start[row] - 1, -1):
            x = delta[t] + decay[t] * x
            result[t] = x
        following.add(row, x)
    return result


def backward_actions(columns: Columns, delta_S: Floats, decay: float) -> Floats:
    """Solve the recursion over actions.  Shape (S,)."""
    result = np.zeros(len(delta_S))
    following = _Children(columns)
    for row in columns.order_S[::-1].tolist():
        result[row] = delta_S[row] + decay * following.mean(row)
        following.add(row, float(result[row]))
    return result


def after_actions(columns: Columns, before_S: Floats) -> Floats:
    """Value of the state after each action: the mean of its children's `before_S`; at a leaf `columns.after_S` if the episode was
    cut, else 0.  Shape (S,).  Raises ValueError if an episode was cut and nobody said what its last state is worth."""
    after = mean_of_children(columns, before_S)
    cut = columns.leaf_S & columns.bootstraps_E[columns.episode_S] & columns.valid_E[columns.episode_S]
    if cut.any() and columns.after_S is None:
        raise ValueError(
            f"{cut.sum()} actions end episodes that were cut, and columns.after_S is None: give the critic's value of the state "
            "after each action, or zeros if running out of turns or tokens is part of the task"
        )
    return after if columns.after_S is None else np.where(cut, columns.after_S, after)


def mean_of_children(columns: Columns, value_S: Floats) -> Floats:
    """Mean over the actions that follow each action on its path; 0 where none does.  Shape (S,)."""
    following = _Children(columns)
    for row, value in enumerate(value_S.tolist()):
        following.add(row, value)
    return np.array([following.mean(row) for row in range(len(value_S))], np.float64)


class _Children:
    """Running means over the children of each row; children in invalid episodes do not count.

    They are taken relative to the first child, so that equal children give exactly their value.
    """

    def __init__(self, columns: Columns) -> None:
        self.parent = columns.parent_S.tolist()
        self.valid = columns.valid_E[columns.episode_S].tolist()
        self.first = [0.0] * len(self.parent)
        self.beyond = [0.0] * len(self.parent)
        self.count = [0] * len(self.parent)

    def add(self, row: int, value: float) -> None:
        above = self.parent[row]
        if above >= 0 and self.valid[row]:
            if self.count[above] == 0:
                self.first[above] = value
            self.beyond[above] += value - self.first[above]
            self.count[above] += 1

    def mean(self, row: int) -> float:
        return self.first[row] + self.beyond[row] / max(self.count[row], 1)
