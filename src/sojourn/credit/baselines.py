"""Other baselines: what is subtracted from a return, when it is not the plain mean of the group.

OPO      b = sum l_i R_i / sum l_i                                                    [arXiv 2505.23585]
ReMax    b = return of the greedy rollout                                             [arXiv 2310.10505]
GPG      A = alpha (R - mean) / f, alpha = B / (samples in groups with spread)        [arXiv 2504.02546]
MaxRL    A = (R - mean) / mean                                                        [arXiv 2602.02710]
OTB      b_t = sum_i G_it W_it / sum_i W_it,  W_it = cumulated (1 - 2 pi + sum_v pi^2)    [arXiv 2602.07078]
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats, Ints
from sojourn.credit.group import Normaliser, anchor
from sojourn.credit.needs import no_baseline
from sojourn.credit.ranges import INF, checked, within
from sojourn.credit.recursion import backward_tokens

CENTRE = Normaliser(deviation="none")


@checked
class OPO:
    """Length-weighted mean of the group as the baseline: the one of least variance if gradients of tokens are alike.

    A group of one gets 0, and so do equal returns.
    """

    formula: ClassVar[str] = "A = R - b,  b = sum l R / sum l over the group,  l tokens of an episode"

    def refuses(self, size: int) -> str:
        return no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        weight = np.where(columns.valid_E, columns.length_E, 0).astype(np.float64)
        returns = columns.return_E - anchor(columns.return_E, columns.group_E, columns.valid_E)
        total, count = _group_sum(columns, weight * returns), _group_sum(columns, weight)
        alone = _group_sum(columns, columns.valid_E) < 2
        return columns.spread_episodes(np.where(alone, 0.0, returns - total / np.maximum(count, 1.0)))


opo = OPO()


@checked
class GivenBaseline:
    """Return minus `columns.baseline_E`: the greedy rollout's return (ReMax), or the reference's mean (AdaptThink)."""

    formula: ClassVar[str] = "A = R - b,  b = return of another rollout of the same task"
    reads: ClassVar[frozenset[str]] = frozenset({"baseline_E"})

    def __call__(self, columns: Columns) -> Floats:
        if columns.baseline_E is None:
            raise ValueError("this estimator needs columns.baseline_E, one return of another rollout for each episode")
        return columns.spread_episodes(columns.return_E - columns.baseline_E)


@checked
class GPG:
    """Centred returns, scaled up by the share of groups that carry a signal."""

    formula: ClassVar[str] = "A = alpha (R - mean(R | group)) / scale,  alpha = episodes / (episodes in groups with spread)"

    scale: float = 1.0
    """f, a constant divisor."""

    def __post_init__(self) -> None:
        within(self, scale=(1e-9, INF))

    def refuses(self, size: int) -> str:
        return no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        centred = CENTRE(columns.return_E, columns.group_E, columns.valid_E)
        spread = _group_sum(columns, np.abs(centred)) > 0
        alpha = columns.valid_E.sum() / max(int((spread & columns.valid_E).sum()), 1)
        return columns.spread_episodes(alpha * centred / self.scale)


@checked
class MaxRL:
    """Centred returns over the mean return: rare successes weigh more.  Raises ValueError for a group whose mean return is negative."""

    formula: ClassVar[str] = "A = (R - mean(R | group)) / (mean(R | group) + epsilon)"

    epsilon: float = 1e-6
    """Added to the mean."""

    def __post_init__(self) -> None:
        within(self, epsilon=(0, INF))

    def refuses(self, size: int) -> str:
        return no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        centred = CENTRE(columns.return_E, columns.group_E, columns.valid_E)
        valid = columns.valid_E
        mean = _group_sum(columns, valid * columns.return_E) / np.maximum(_group_sum(columns, valid), 1.0)
        if (mean[centred != 0] + self.epsilon <= 0).any():
            raise ValueError(
                f"MaxRL: a group has the mean return {mean[centred != 0].min():g}, and to divide by it turns good into bad; shift the reward "
                "so that no episode earns less than 0, or choose dr_grpo"
            )
        return columns.spread_episodes(np.divide(centred, mean + self.epsilon, out=np.zeros(len(mean)), where=centred != 0))


@checked
class OptimalTokenBaseline:
    """Return that follows each token, against the group's mean at the same position weighted by expected squared gradient."""

    formula: ClassVar[str] = (
        "A_it = G_it - b_t,  b_t = sum_i G_it W_it / sum_i W_it over the group,  W_it = sum_{u <= t} (1 - 2 pi_iu + sum_v pi_iu(v)^2)"
    )

    reads: ClassVar[frozenset[str]] = frozenset({"square_T"})

    def refuses(self, size: int) -> str:
        return no_baseline(size)

    def __call__(self, columns: Columns) -> Floats:
        if columns.square_T is None or columns.logp_T is None:
            raise ValueError("the optimal token baseline needs columns.square_T, the sums of squared probabilities")
        score = 1 - 2 * np.exp(columns.logp_T) + columns.square_T
        episode = columns.episode_S[columns.row_T]
        position, weight = _walk(episode, score)
        returns = backward_tokens(columns, columns.reward_T, np.ones(len(score)))
        weight = np.where(columns.valid_E[episode], weight, 0.0)
        place = np.unique(np.stack([columns.group_E[episode], position], 1), axis=0, return_inverse=True)[1].reshape(-1)
        returns = returns - anchor(returns, place, weight > 0)
        total, count = np.bincount(place, weight * returns), np.bincount(place, weight)
        members = np.bincount(place, weight > 0)
        baseline = total / np.where(count > 0, count, 1.0)
        advantage = np.where(members[place] > 1, returns - baseline[place], 0.0)
        return np.where(columns.valid_E[episode], advantage, 0.0)


def _walk(episode_T: Ints, score_T: Floats) -> tuple[Ints, Floats]:
    """Position of each token in its episode, and the running sum of scores up to it."""
    position, cumulated = np.zeros(len(score_T), np.int64), np.zeros(len(score_T))
    for episode in np.unique(episode_T):
        mine = episode_T == episode
        position[mine], cumulated[mine] = np.arange(mine.sum()), np.cumsum(score_T[mine])
    return position, cumulated


def _group_sum(columns: Columns, value_E: Floats | Bools) -> Floats:
    """Sum over each episode's group, shape (E,)."""
    return np.bincount(columns.group_E, value_E)[columns.group_E].astype(np.float64)
