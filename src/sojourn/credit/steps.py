"""Credit for single actions from discounted returns, with no critic.

    G_s = r_s + gamma * mean over children of G        (gamma for each action, not for each token)

What a return is compared with is the bucket: the whole batch, the group, the group's actions at the same turn, its actions
taken in the same state, or its actions sampled after the same action.

    step REINFORCE      bucket batch
    MAGRPO              bucket turn          [arXiv 2508.04652]
    GiGPO step part     bucket state         [arXiv 2505.10978, eq. 7]
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from sojourn.credit.columns import Columns, Floats, Ints
from sojourn.credit.group import GroupRelative, Normaliser
from sojourn.credit.ranges import INF, checked, within
from sojourn.credit.recursion import backward_actions

Bucket = Literal["batch", "group", "turn", "state", "siblings"]
RETURNS = "G_s = r_s + gamma mean(G | children of s)"


def action_returns(columns: Columns, gamma: float) -> Floats:
    """Discounted return that follows each action, with the reward of the action itself.  Shape (S,).

    A final reward lies on the leaves; where the tree forks, the branches are averaged.
    """
    return backward_actions(columns, columns.earned_S, gamma)


def buckets(columns: Columns, bucket: Bucket) -> Ints:
    """Number of the bucket of each action; an action whose state is unknown is alone.  Shape (S,)."""
    if bucket == "batch":
        return np.zeros(len(columns.span_S), np.int64)
    if bucket == "group":
        return columns.group_S
    if bucket == "turn":
        return _number(columns.group_S, columns.turn_S)
    if bucket == "siblings":
        return _number(columns.group_S, columns.parent_S, columns.context_S)
    alone = columns.anchor_S.max(initial=-1) + 1 + np.arange(len(columns.anchor_S))
    return np.where(columns.anchor_S < 0, alone, columns.anchor_S)


def _number(*keys: Ints) -> Ints:
    """Consecutive numbers for equal rows of keys."""
    return np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@checked
class StepRelative:
    """Return that follows each action against the returns in its bucket."""

    bucket: Bucket = "batch"
    """Which actions are comparable."""
    gamma: float = 1.0
    """Discount for each action; lowering it favours short solutions and near rewards."""
    normaliser: Normaliser = Normaliser()
    """How returns are compared."""

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1))

    @property
    def formula(self) -> str:
        return f"A_s = {self.normaliser.formula('G', group=self.bucket)},  {RETURNS}"

    def refuses(self, size: int) -> str:
        within_one = self.bucket in ("batch", "siblings")  # the batch, or the branches of one episode that is a tree
        return "" if within_one else self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        valid = columns.valid_E[columns.episode_S]
        return columns.spread(self.normaliser(action_returns(columns, self.gamma), buckets(columns, self.bucket), valid))


@checked
class GiGPO:
    """A = A_episode + omega * A_step, the step part among actions taken in the same state.  [arXiv 2505.10978, eq. 8]"""

    omega: float = 1.0
    """Weight of the step part; 0 is GRPO."""
    gamma: float = 0.95
    """Discount for each action in the step part."""
    normaliser: Normaliser = Normaliser(deviation="none")
    """Used for both parts."""

    def __post_init__(self) -> None:
        within(self, omega=(0, INF), gamma=(0, 1))

    @property
    def formula(self) -> str:
        step = self.normaliser.formula("G", group="state")
        return f"A_s = {self.normaliser.formula('R')} + omega ({step}),  {RETURNS}"

    def refuses(self, size: int) -> str:
        return self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        episode = GroupRelative(normaliser=self.normaliser)
        step = StepRelative(bucket="state", gamma=self.gamma, normaliser=self.normaliser)
        return episode(columns) + self.omega * step(columns)
