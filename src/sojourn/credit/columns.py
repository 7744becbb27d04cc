r"""What credit reads: a few aligned arrays over action spans, their episodes and their tokens.

Legend for names: S action spans (the rows), E episodes, T action tokens.  Rows are in the order of groups, then episodes, then
sampling; the T axis is the rows' tokens one after another (row `s` owns `slice(start_S[s], start_S[s + 1])`).  Only action tokens
exist here: observations are carried over by `parent_S`, so no estimator can see them by accident.

A group of two episodes: the first says `a` (two tokens), hears something, says `b` (one) and earns 1, the second says `c` (three) and earns
nothing.

    tree                        row s       0   1   2            token t     0  1  2  3  4  5
    task -- a --(world)-- b     span_S      a   b   c            row_T       0  0  1  2  2  2
        \-- c                   parent_S   -1   0  -1            start_S     0     2  3        6
                                episode_S   0   0   1            final_E     1, 0
                                turn_S      0   1   0            group_E     0, 0

An advantage of episodes, shape (E,), is spread over their rows to the T axis: +1/2 on tokens 0 to 2, -1/2 on tokens 3 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Aligned arrays.  Fields that end in `_S`, `_E`, `_T` have that axis; optional ones are None until something fills them."""

    span_S: Ints
    """Id of the span in its tree."""
    parent_S: Ints
    """Row of the nearest action before this one on the same path, across context rewrites; -1 for none."""
    turn_S: Ints
    """Actions before this one on its path."""
    context_S: Ints
    """Context (root of the path), numbered over the whole batch."""
    episode_S: Ints
    """Row of the E axis."""
    agent_S: Ints
    """Who speaks, numbered by name in order of appearance."""
    anchor_S: Ints
    """State key before the action, numbered; equal exactly when group and key are equal; -1 for none."""
    length_S: Ints
    """Action tokens."""
    reward_S: Floats
    """Reward of the action: paid on its span, or on an observation that it caused."""
    calls_S: Ints
    """Tool calls in the action."""
    trained_S: Bools
    """False for a frozen partner's actions and for what the harness put into a policy's mouth (`Kind.FORCED`), unless that is imitated;
    batch statistics over tokens leave them out."""
    group_E: Ints
    """Group, numbered over the batch."""
    final_E: Floats
    """Reward paid at the end, for the episode as a whole."""
    valid_E: Bools
    """False after an infrastructure failure: leaves every statistic, gets advantage 0."""
    bootstraps_E: Bools
    """True if the episode was cut and its last state has a future."""
    success_E: Bools
    """Whether the task was solved."""
    forced_S: Bools | None = None
    """Not sampled: the harness put it into the policy's mouth; None for nothing."""
    cut_S: Bools | None = None
    """The action was cut off by `max_tokens` or a full context; None for none."""
    usable_E: Bools | None = None
    """False for an episode that is complete but unusable: it keeps its place in statistics and is not trained; None: all are usable."""
    terms_S: dict[str, Floats] = field(default_factory=dict)
    """`reward_S` by name of the term; NaN where an action was not paid it."""
    terms_E: dict[str, Floats] = field(default_factory=dict)
    """Reward terms by name, those of actions and the final ones, summed over the episode."""
    logp_T: Floats | None = None
    """Log-probability under the policy that sampled."""
    policy_logp_T: Floats | None = None
    """Log-probability under the learner's policy at the start of this update."""
    ref_logp_T: Floats | None = None
    """Log-probability under a reference or teacher."""
    square_T: Floats | None = None
    """Sum of the squared probabilities of the policy's distribution at each token."""
    penalty_T: Floats | None = None
    """Dense reward on single tokens: a KL penalty, a token-level process reward."""
    value_T: Floats | None = None
    """Value of the state before each action token."""
    value_S: Floats | None = None
    """Value of the state before each action, estimated by fresh rollouts."""
    answer_S: Floats | None = None
    """Mean log-probability of the tokens of the task's right answer in the place of each action."""
    entropy_T: Floats | None = None
    """Entropy of the policy's distribution at each token."""
    after_S: Floats | None = None
    """Value of the state after the action; read at the leaves of episodes that bootstrap."""
    baseline_E: Floats | None = None
    """Return of another rollout of the same task (the greedy one, the reference's mean)."""
    coefficients: Mapping[str, float] = field(default_factory=dict)
    """Coefficients that a target has moved, by name; a part that has one reads it here before it takes its own."""

    @property
    def group_S(self) -> Ints:
        return self.group_E[self.episode_S]

    @property
    def start_S(self) -> Ints:
        """Offsets on the T axis, shape (S + 1,)."""
        return np.concatenate([[0], np.cumsum(self.length_S)]).astype(np.int64)

    @property
    def row_T(self) -> Ints:
        """Row of each action token."""
        return np.repeat(np.arange(len(self.length_S)), self.length_S)

    @property
    def order_S(self) -> Ints:
        """Rows so that every action comes after the one before it on its path."""
        return np.lexsort((self.span_S, self.group_S))

    @property
    def leaf_S(self) -> Bools:
        """Rows that no other action follows."""
        leaf = np.ones(len(self.parent_S), bool)
        leaf[self.parent_S[self.parent_S >= 0]] = False
        return leaf

    @property
    def dense_S(self) -> Floats:
        """`penalty_T` summed over each action."""
        if self.penalty_T is None:
            return np.zeros(len(self.length_S))
        return np.bincount(self.row_T, self.penalty_T, len(self.length_S)).astype(np.float64)

    @property
    def return_E(self) -> Floats:
        """Undiscounted return of each episode: its actions' rewards, its dense rewards, its final reward."""
        return self.final_E + np.bincount(self.episode_S, self.reward_S + self.dense_S, len(self.final_E))

    @property
    def length_E(self) -> Ints:
        """Tokens that were sampled in each episode, over all its contexts."""
        sampled_S = self.length_S if self.forced_S is None else np.where(self.forced_S, 0, self.length_S)
        return np.bincount(self.episode_S, sampled_S, len(self.final_E)).astype(np.int64)

    @property
    def earned_S(self) -> Floats:
        """What each action earned: its reward, its dense rewards, and on leaves the episode's final reward."""
        return self.reward_S + self.dense_S + np.where(self.leaf_S, self.final_E[self.episode_S], 0.0)

    @property
    def reward_T(self) -> Floats:
        """Reward of each token: `penalty_T`, and on the last token of an action the rest of `earned_S`."""
        reward = np.zeros(int(self.length_S.sum())) if self.penalty_T is None else self.penalty_T.astype(np.float64)
        reward[self.start_S[1:] - 1] += self.earned_S - self.dense_S
        return reward

    def spread(self, value_S: Floats) -> Floats:
        """One value for each action, given to all its tokens; 0 in invalid episodes.  Shape (T,)."""
        return np.repeat(np.where(self.valid_E[self.episode_S], value_S, 0.0), self.length_S)

    def spread_episodes(self, value_E: Floats) -> Floats:
        """One value for each episode, given to all its tokens over all its contexts.  Shape (T,)."""
        return self.spread(value_E[self.episode_S])


Credit: TypeAlias = Callable[[Columns], Floats]
"""`credit(columns) -> advantage_T`: one float64 for each action token, always."""
