"""Generalised advantage estimation, over tokens or over turns, on a tree.  [arXiv 1506.02438, eq. 16]

    delta_t = r_t + gamma V_{t+1} - V_t
    A_t     = delta_t + gamma lambda A_{t+1}

V_{t+1} is the value before the next action token on the path: observations have no value here, so none can leak.  After the last
action V is 0 if the episode ended, and `columns.after_S` if it was cut.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from sojourn.credit.columns import Columns, Floats
from sojourn.credit.ranges import INF, checked, within
from sojourn.credit.recursion import after_actions, backward_actions, backward_tokens


def required_values(columns: Columns) -> Floats:
    if columns.value_T is None:
        raise ValueError("this estimator needs a critic, but columns.value_T is None; configure one, or use a group baseline")
    return columns.value_T


def values_before_actions(columns: Columns, monte_carlo: bool) -> Floats:
    """Value of the state before each action, shape (S,)."""
    if monte_carlo:
        if columns.value_S is None:
            raise ValueError(
                "Gae(monte_carlo=True) needs columns.value_S, the mean return of fresh rollouts from before each action"
            )
        return columns.value_S
    return required_values(columns)[columns.start_S[:-1]]


def next_values(columns: Columns, value_T: Floats) -> Floats:
    """V_{t+1} of each token, shape (T,)."""
    following = np.append(value_T[1:], 0.0)
    following[columns.start_S[1:] - 1] = after_actions(columns, value_T[columns.start_S[:-1]])
    return following


def over_tokens(columns: Columns, value_T: Floats, gamma_T: Floats, lam_T: Floats | float) -> Floats:
    """Advantages with tokens as steps; `gamma_T` and `lam_T` lead from each token to the next.  Shape (T,)."""
    delta = columns.reward_T + gamma_T * next_values(columns, value_T) - value_T
    advantage = backward_tokens(columns, delta, gamma_T * lam_T)
    return np.where(columns.valid_E[columns.episode_S[columns.row_T]], advantage, 0.0)


@checked
class Gae:
    """GAE over tokens or turns."""

    granularity: Literal["token", "turn"] = "token"
    """What one step is.  "turn": a whole action is one step, and its tokens share one advantage."""
    gamma: float = 1.0
    """Discount for each step."""
    lam: float = 0.95
    """lambda; 1 is Monte-Carlo minus V (no bias), 0 is one-step (low variance)."""
    monte_carlo: bool = False
    """Values come from fresh rollouts (`columns.value_S`), not from a critic.  [VinePPO, arXiv 2410.01679]"""
    alpha: float | None = None
    """If given, lambda = 1 - 1 / (alpha * l) for an episode of l steps.  [length-adaptive, VAPO, arXiv 2504.05118, eq. 5]"""

    @property
    def formula(self) -> str:
        x = "s" if self.granularity == "turn" else "t"
        line = f"A_{x} = delta_{x} + gamma lambda A_{{{x}+1}},  delta_{x} = r_{x} + gamma V_{{{x}+1}} - V_{x}"
        line += ",  V = mean return of fresh rollouts" if self.monte_carlo else ""
        return line if self.alpha is None else f"{line},  lambda = 1 - 1 / (alpha l_i)"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"value_S" if self.monte_carlo else "value_T"})

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): returns with this discount."""
        return value_targets(columns, gamma=1.0 if self.granularity == "turn" else self.gamma, gamma_turn=self.gamma)

    def __call__(self, columns: Columns) -> Floats:
        if self.granularity == "turn":
            before = values_before_actions(columns, self.monte_carlo)
            delta = columns.earned_S + self.gamma * after_actions(columns, before) - before
            return columns.spread(backward_actions(columns, delta, self.gamma * self.lam))
        value = required_values(columns)
        return over_tokens(columns, value, np.full(len(value), self.gamma), self._lam(columns))

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1), lam=(0, 1), alpha=(0, INF))
        if self.alpha is not None and self.granularity == "turn":
            raise ValueError("Gae(alpha=...) adapts lambda to the number of tokens; use granularity='token', or drop alpha")
        if self.monte_carlo and self.granularity == "token":
            raise ValueError("Gae(monte_carlo=True) has one value for each action; use granularity='turn'")

    def _lam(self, columns: Columns) -> Floats:
        if self.alpha is None:
            return np.full(int(columns.length_S.sum()), self.lam)
        length = columns.length_E[columns.episode_S[columns.row_T]]
        return np.maximum(1 - 1 / (self.alpha * length), 0.0)


def value_targets(columns: Columns, *, gamma: float = 1.0, gamma_turn: float | None = None, lam: float = 1.0) -> Floats:
    """What the critic should predict: A + V with its own lambda; 1 is the Monte-Carlo return.  [VC-PPO, arXiv 2503.01491]

    gamma: discount for each token.  gamma_turn: from the last token of an action to what follows it; without it, `gamma`.
    """
    value = required_values(columns)
    gamma_T = np.full(len(value), gamma)
    gamma_T[columns.start_S[1:] - 1] = gamma if gamma_turn is None else gamma_turn
    return over_tokens(columns, value, gamma_T, lam) + value


def critic_targets(credit: object, columns: Columns) -> Floats:
    """What a critic beside `credit` should predict, shape (T,): what the credit says (`targets`), else undiscounted returns."""
    if isinstance(credit, HasTargets):
        return credit.targets(columns)
    return value_targets(columns)


@runtime_checkable
class HasTargets(Protocol):
    """A credit that discounts, pays on top, or corrects, so that its critic must, too."""

    def targets(self, columns: Columns) -> Floats: ...


@checked
class BiLevelGae:
    """Turns first, then the tokens of each turn.  [RAGEN, arXiv 2504.20073]

    Turn level: GAE with `gamma_turn` over actions.  Token level: GAE within each action, whose last token is paid what makes the
    action's return equal the turn level's, A_turn + V.  Turn ends are explicit, so a turn that earned 0 is a turn.
    """

    gamma_turn: float = 0.95
    """Discount for each action."""
    lam_turn: float = 0.95
    """lambda between actions."""
    gamma: float = 1.0
    """Discount for each token."""
    lam: float = 0.95
    """lambda within an action."""

    reads: ClassVar[frozenset[str]] = frozenset({"value_T"})
    formula: ClassVar[str] = (
        "A_s = delta_s + gamma_turn lambda_turn A_{s+1},  delta_s = r_s + gamma_turn V_{s+1} - V_s  (turns)\n"
        "A_t = delta_t + gamma lambda A_{t+1},  delta_t = gamma V_{t+1} - V_t, on a turn's last token A_t = A_s + V_s - V_t  (tokens)"
    )

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1), lam=(0, 1), gamma_turn=(0, 1), lam_turn=(0, 1))

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): returns with both discounts."""
        return value_targets(columns, gamma=self.gamma, gamma_turn=self.gamma_turn)

    def __call__(self, columns: Columns) -> Floats:
        value, start = required_values(columns), columns.start_S
        before = value[start[:-1]]
        delta = columns.earned_S + self.gamma_turn * after_actions(columns, before) - before
        turn_return = backward_actions(columns, delta, self.gamma_turn * self.lam_turn) + before
        reward = np.zeros(len(value))
        reward[start[1:] - 1] = turn_return
        following, decay = np.append(value[1:], 0.0), np.full(len(value), self.gamma * self.lam)
        following[start[1:] - 1], decay[start[1:] - 1] = 0.0, 0.0
        advantage = backward_tokens(columns, reward + self.gamma * following - value, decay)
        return np.where(columns.valid_E[columns.episode_S[columns.row_T]], advantage, 0.0)
