"""Turn-level credit from rewards paid during the episode: MT-GRPO, process rewards, IGPO.

Outcome and turn rewards are told apart by the names of their terms, or, with no names given, by place: what an episode's last
actions and its end earn is the outcome, what earlier actions earn are turn rewards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sojourn.credit.columns import Columns, Floats
from sojourn.credit.group import Normaliser
from sojourn.credit.recursion import backward_actions
from sojourn.credit.steps import Bucket, buckets


def split_rewards(columns: Columns, turn_terms: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Turn rewards, shape (S,), and outcomes, shape (E,); they add up to `return_E`."""
    if turn_terms:
        none = np.zeros(len(columns.span_S))
        turn = sum((columns.terms_S.get(name, none) for name in turn_terms), none)
    else:
        turn = np.where(columns.leaf_S, 0.0, columns.earned_S)
    return turn, columns.return_E - np.bincount(columns.episode_S, turn, len(columns.final_E))


@dataclass(frozen=True, kw_only=True)
class MTGRPO:
    """A = A_outcome + kappa * A_turn for every action but an episode's last, which gets A_outcome.  [arXiv 2505.11821, eq. 5]

    Each part is normalised in the group by itself, the turn part among actions at the same turn.
    """

    kappa: float = 1.0
    """Weight of the turn's own reward."""
    turn_terms: tuple[str, ...] = ()
    """Names of the terms that are turn rewards; empty: all that earlier actions earn."""
    normaliser: Normaliser = Normaliser()
    """Used for both parts."""

    @property
    def formula(self) -> str:
        outcome, turn = self.normaliser.formula("R_outcome"), self.normaliser.formula("r", group="turn")
        return f"A_s = A_outcome + kappa A_turn,  A_turn = 0 for an episode's last action\nA_outcome = {outcome}\nA_turn = {turn}"

    def __call__(self, columns: Columns) -> Floats:
        turn_S, outcome_E = split_rewards(columns, self.turn_terms)
        early = columns.valid_E[columns.episode_S] & ~columns.leaf_S
        turn = self.normaliser(turn_S, buckets(columns, "turn"), early)
        outcome = self.normaliser(outcome_E, columns.group_E, columns.valid_E)
        return columns.spread(outcome[columns.episode_S] + self.kappa * turn)


@dataclass(frozen=True, kw_only=True)
class ProcessRewards:
    """Each action gets the sum of the normalised rewards that follow it.

        A_s = r~_s + gamma * A_{s+1}        [process supervision, DeepSeekMath, arXiv 2402.03300, sec. 4.1.3]

    Turn rewards are normalised among themselves, outcomes among themselves; with the gain in log-probability of the right answer
    as the turn reward this is IGPO [arXiv 2510.14967, eq. 4 to 6].
    """

    turn_terms: tuple[str, ...] = ()
    """Names of the terms that are turn rewards; empty: all that earlier actions earn."""
    gamma: float = 1.0
    """Discount for each action."""
    bucket: Bucket = "group"
    """Which turn rewards are comparable."""
    normaliser: Normaliser = Normaliser()
    """Used for both parts."""

    @property
    def formula(self) -> str:
        turn, outcome = self.normaliser.formula("r", group=self.bucket), self.normaliser.formula("R_outcome")
        return f"A_s = x_s + gamma A_{{s+1}},  x_s = {turn}\nx_s <- x_s + {outcome} on an episode's last action"

    def __call__(self, columns: Columns) -> Floats:
        turn_S, outcome_E = split_rewards(columns, self.turn_terms)
        early = np.full(len(turn_S), True) if self.turn_terms else ~columns.leaf_S
        turn = self.normaliser(turn_S, buckets(columns, self.bucket), early & columns.valid_E[columns.episode_S])
        outcome = self.normaliser(outcome_E, columns.group_E, columns.valid_E)
        reward = turn + np.where(columns.leaf_S, outcome[columns.episode_S], 0.0)
        return columns.spread(backward_actions(columns, reward, self.gamma))
