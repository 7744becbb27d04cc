"""Turn-level credit from rewards paid during the episode: MT-GRPO, process rewards, IGPO.

Outcome and turn rewards are told apart by the names of their terms, or, with no names given, by place: what an episode's last
actions and its end earn is the outcome, what earlier actions earn are turn rewards.  An action that was not paid a named term has no
turn reward: it is in no statistics of them.  One that was paid 0 is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from sojourn.credit.columns import Bools, Columns, Credit, Floats
from sojourn.credit.formula import formula
from sojourn.credit.gae import critic_targets
from sojourn.credit.group import Normaliser
from sojourn.credit.needs import Composite, reads
from sojourn.credit.ranges import INF, checked, within
from sojourn.credit.recursion import backward_actions, mean_of_children
from sojourn.credit.steps import Bucket, buckets


def split_rewards(columns: Columns, turn_terms: tuple[str, ...], *, last: bool) -> tuple[Floats, Bools, Floats]:
    """Turn rewards, shape (S,), which actions have one, and outcomes, shape (E,).  Rewards and outcomes add up to `return_E`.

    last: whether an episode's last actions may have a turn reward; else theirs is part of the outcome.
    Raises `ValueError` for a named term that no action of the batch was paid.
    """
    if turn_terms:
        each = np.stack([_term(columns, name) for name in turn_terms])
        paid, turn = ~np.isnan(each).all(axis=0), np.nansum(each, axis=0)
        paid &= last | ~columns.leaf_S
    else:
        paid, turn = ~columns.leaf_S, columns.earned_S
    turn = np.where(paid, turn, 0.0)
    return turn, paid, columns.return_E - np.bincount(columns.episode_S, turn, len(columns.final_E))


def _term(columns: Columns, name: str) -> Floats:
    """What each action was paid of a term, NaN for nothing."""
    term = columns.terms_S.get(name, np.full(len(columns.span_S), np.nan))
    valid = columns.valid_E[columns.episode_S]
    if np.isnan(term[valid]).all() and (valid & ~columns.leaf_S).any():
        raise ValueError(
            f"turn_terms names '{name}', but no action was paid such a term (paid: {', '.join(columns.terms_S) or 'nothing'}); let the "
            "environment pay it to each action that it judges, 0 for one that earned nothing, or drop the name"
        )
    return term


@checked
class MTGRPO:
    """A = A_outcome + kappa * A_turn for every action but an episode's last, which gets A_outcome.  [arXiv 2505.11821, eq. 5]

    Each part is normalised in the group by itself, the turn part among actions at the same turn.
    """

    kappa: float = 1.0
    """Weight of the turn's own reward."""
    turn_terms: tuple[str, ...] = ()
    """Names of the terms that are turn rewards; empty: all that earlier actions earn.  The last action's belong to the outcome."""
    normaliser: Normaliser = Normaliser()
    """Used for both parts."""

    def __post_init__(self) -> None:
        within(self, kappa=(0, INF))

    @property
    def formula(self) -> str:
        outcome, turn = self.normaliser.formula("R_outcome"), self.normaliser.formula("r", group="turn")
        return f"A_s = A_outcome + kappa A_turn,  A_turn = 0 for an episode's last action\nA_outcome = {outcome}\nA_turn = {turn}"

    def refuses(self, size: int) -> str:
        return self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        turn_S, paid_S, outcome_E = split_rewards(columns, self.turn_terms, last=False)
        turn = self.normaliser(turn_S, buckets(columns, "turn"), paid_S & columns.valid_E[columns.episode_S])
        outcome = self.normaliser(outcome_E, columns.group_E, columns.valid_E)
        return columns.spread(outcome[columns.episode_S] + self.kappa * turn)


@checked
class ProcessRewards:
    """Each action gets the sum of the normalised rewards that follow it.

        A_s = r~_s + gamma * A_{s+1}        [process supervision, DeepSeekMath, arXiv 2402.03300, sec. 4.1.3]

    Turn rewards are normalised among themselves, outcomes among themselves, or all in one pool; around it, `InformationGain` makes it
    IGPO.
    """

    turn_terms: tuple[str, ...] = ()
    """Names of the terms that are turn rewards; empty: all that earlier actions earn."""
    gamma: float = 1.0
    """Discount for each action."""
    bucket: Bucket = "group"
    """Which turn rewards are comparable."""
    pooled: bool = False
    """One mean and one deviation for the turn rewards and the outcomes of a group together.  [IGPO, arXiv 2510.14967]"""
    normaliser: Normaliser = Normaliser()
    """Used for both parts."""

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1))
        if self.pooled and self.bucket != "group":
            raise ValueError(f"ProcessRewards(pooled=True, bucket='{self.bucket}'): the pool is the group's; use bucket='group'")

    @property
    def formula(self) -> str:
        pool = "r and R_outcome in the group" if self.pooled else ""
        turn = self.normaliser.formula("r", group=pool or self.bucket)
        outcome = self.normaliser.formula("R_outcome", group=pool or "group")
        return f"A_s = x_s + gamma A_{{s+1}},  x_s = {turn}\nx_s <- x_s + {outcome} on an episode's last action"

    def refuses(self, size: int) -> str:
        return self.normaliser.refuses(size)

    def __call__(self, columns: Columns) -> Floats:
        turn_S, paid_S, outcome_E = split_rewards(columns, self.turn_terms, last=True)
        paid_S = paid_S & columns.valid_E[columns.episode_S]
        if self.pooled:
            value, pool = np.concatenate([turn_S, outcome_E]), np.concatenate([columns.group_S, columns.group_E])
            turn, outcome = np.split(self.normaliser(value, pool, np.concatenate([paid_S, columns.valid_E])), [len(turn_S)])
        else:
            turn = self.normaliser(turn_S, buckets(columns, self.bucket), paid_S)
            outcome = self.normaliser(outcome_E, columns.group_E, columns.valid_E)
        reward = turn + np.where(columns.leaf_S, outcome[columns.episode_S], 0.0)
        return columns.spread(backward_actions(columns, reward, self.gamma))


@checked
class InformationGain(Composite):
    """A credit whose actions are paid for what they taught, as the term `information`.  [IGPO, arXiv 2510.14967]

        I_s = f(answer | what s led to) - f(answer | what s knew)        f = log p, the mean over the answer's tokens, or p = exp of it

    An action that no other follows teaches nobody: it has no such term.
    """

    credit: Credit
    """What turns the rewards into advantages; it reads `information` as a turn reward."""
    measure: Literal["logp", "probability"] = "logp"
    """What is taken the difference of.  The paper's is the probability, which pays most where the answer is already likely."""

    @property
    def formula(self) -> str:
        f = "log p" if self.measure == "logp" else "p"
        gain = f"I_s = {f}(answer | what s led to) - {f}(answer | what s knew)"
        return f"r_s <- r_s + I_s,  {gain}\n{formula(self.credit)}"

    @property
    def made_of(self) -> tuple[object, ...]:
        return (self.credit,)

    @property
    def reads(self) -> frozenset[str]:
        return reads(self.credit) | {"answer_S"}

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): returns with the gains."""
        return critic_targets(self.credit, self.paid(columns))

    def __call__(self, columns: Columns) -> Floats:
        return self.credit(self.paid(columns))

    def paid(self, columns: Columns) -> Columns:
        """`columns` with the rewards that the credit within reads."""
        if columns.answer_S is None:
            raise ValueError("InformationGain needs columns.answer_S, the log-probability of the right answer before each action")
        known = columns.answer_S if self.measure == "logp" else np.exp(columns.answer_S)
        gain = np.where(columns.leaf_S, np.nan, mean_of_children(columns, known) - known)
        reward = columns.reward_S + np.nan_to_num(gain)
        return replace(columns, reward_S=reward, terms_S={**columns.terms_S, "information": gain})


@checked
class GatedTurns(Composite):
    """A credit whose turn rewards count in episodes that succeeded alone: what looks like good thinking is worth nothing where the answer
    is wrong, so it cannot be hacked by itself.  [Posterior-GRPO, arXiv 2508.05170]

        R = outcome + (outcome passed) * turn rewards        format rewards are part of the outcome
    """

    credit: Credit
    """What turns the rewards into advantages."""
    turn_terms: tuple[str, ...] = ()
    """Names of the terms that are turn rewards; empty: all that earlier actions earn."""

    @property
    def formula(self) -> str:
        return f"r_s <- 0 for turn rewards of an episode that failed\n{formula(self.credit)}"

    @property
    def made_of(self) -> tuple[object, ...]:
        return (self.credit,)

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): returns of what counts."""
        return critic_targets(self.credit, self.paid(columns))

    def __call__(self, columns: Columns) -> Floats:
        return self.credit(self.paid(columns))

    def paid(self, columns: Columns) -> Columns:
        """`columns` with the rewards that the credit within reads."""
        turn_S, _, _ = split_rewards(columns, self.turn_terms, last=True)
        failed_S = ~columns.success_E[columns.episode_S]
        terms = {
            name: np.where(failed_S & ~np.isnan(columns.terms_S[name]), 0.0, columns.terms_S[name]) for name in self.turn_terms
        }
        return replace(columns, reward_S=columns.reward_S - np.where(failed_S, turn_S, 0.0), terms_S={**columns.terms_S, **terms})
