"""Transforms: what is done to advantages after a credit has made them (`Then`).

Each is called as `transform(columns, advantage_T) -> advantage_T`.

EntropyBonus   A + min(alpha H, |A| / kappa)                                            [arXiv 2506.14758]
EarlyCalls     A + clip(delta (p - mean p) / mean l, +-k |A|), p where the first call ends     [ASPO, arXiv 2508.19201]
ByEntropy      A mean(H | group) / H_i: the surer an episode, the more it counts               [EDGE-GRPO, arXiv 2507.21848]
HardGroups     A w(u): groups of which less than half is right weigh as much as if half were   [DARS, arXiv 2508.13755]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from sojourn.credit.columns import Bools, Columns, Floats
from sojourn.credit.group import Normaliser
from sojourn.credit.ranges import INF, checked, within

Transform: TypeAlias = Callable[[Columns, Floats], Floats]


def counted_tokens(columns: Columns) -> Bools:
    """Tokens that count in statistics over tokens: trained, and in a valid episode.  Shape (T,)."""
    return (columns.trained_S & columns.valid_E[columns.episode_S])[columns.row_T]


@checked
class Whiten:
    """Mean 0 and deviation 1 over the counted tokens of the batch."""

    centre: bool = True
    """Subtract the mean."""
    epsilon: float = 1e-8
    """Added to the deviation."""

    def __post_init__(self) -> None:
        within(self, epsilon=(0, INF))

    @property
    def formula(self) -> str:
        return f"A_t <- {self._normaliser.formula('A_t', batch='tokens of the batch')}"

    @property
    def _normaliser(self) -> Normaliser:
        return Normaliser(mean="batch" if self.centre else "none", deviation="batch", epsilon=self.epsilon)

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return self._normaliser(advantage_T, np.zeros(len(advantage_T), np.int64), counted_tokens(columns))


@checked
class Bounded:
    """Advantages clipped to +-limit."""

    formula: ClassVar[str] = "A_t <- clip(A_t, -limit, limit)"

    limit: float = 5.0
    """Largest size."""

    def __post_init__(self) -> None:
        within(self, limit=(0, INF))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.clip(advantage_T, -self.limit, self.limit)


@checked
class PositiveOnly:
    """Negative advantages become 0."""

    formula: ClassVar[str] = "A_t <- max(A_t, 0)"

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        return np.maximum(advantage_T, 0.0)


@checked
class EntropyBonus:
    """A + min(alpha H, |A| / kappa), H detached: uncertain tokens weigh more, no sign flips.  [arXiv 2506.14758]"""

    formula: ClassVar[str] = "A_t <- A_t + min(alpha H_t, |A_t| / kappa)"
    reads: ClassVar[frozenset[str]] = frozenset({"entropy_T"})

    alpha: float = 0.4
    """Weight of the entropy, per nat."""
    kappa: float = 2.0
    """> 1; the bonus is at most |A| / kappa."""

    def __post_init__(self) -> None:
        within(self, alpha=(0, INF), kappa=(1e-9, INF))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        if columns.entropy_T is None:
            raise ValueError("EntropyBonus needs columns.entropy_T, the entropy at each action token")
        return advantage_T + np.minimum(self.alpha * columns.entropy_T, np.abs(advantage_T) / self.kappa)


@checked
class EarlyCalls:
    """Right answers that call a tool early get more than those that call late; never more than a share of what they had.

    p is the number of sampled tokens up to the end of the action that makes the first call, l the length of the episode; both means run over
    the group's right answers that call.  Others keep their advantages.  [ASPO, arXiv 2508.19201]
    """

    formula: ClassVar[str] = "A_t <- A_t + clip(delta (p - mean(p)) / mean(l), -k |A_t|, k |A_t|)  for right answers with a call"

    delta: float = -2.0
    """Weight of the place; negative favours early calls."""
    k: float = 0.7
    """Largest change, as a share of |A|."""

    def __post_init__(self) -> None:
        within(self, k=(0, 1))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        place_E = first_calls(columns)
        counted = columns.valid_E & columns.success_E & (place_E >= 0)
        shift_E = np.zeros(len(place_E))
        for group in np.unique(columns.group_E[counted]):
            mine = counted & (columns.group_E == group)
            shift_E[mine] = self.delta * (place_E[mine] - place_E[mine].mean()) / columns.length_E[mine].mean()
        bound_T = self.k * np.abs(advantage_T)
        return advantage_T + np.clip(columns.spread_episodes(shift_E), -bound_T, bound_T)


def first_calls(columns: Columns) -> Floats:
    """Sampled tokens of each episode up to the end of its first action with a tool call; -1 where it makes none.  Shape (E,)."""
    place_E, said_E = np.full(len(columns.final_E), -1.0), np.zeros(len(columns.final_E))
    for episode, length, calls in zip(
        columns.episode_S.tolist(), columns.length_S.tolist(), columns.calls_S.tolist(), strict=True
    ):
        said_E[episode] += length
        if calls and place_E[episode] < 0:
            place_E[episode] = said_E[episode]
    return place_E


@checked
class ByEntropy:
    """Advantages over the episode's mean entropy, taken relative to its group's: confident mistakes cost more, confident successes earn
    more.  [EDGE-GRPO, arXiv 2507.21848]"""

    formula: ClassVar[str] = "A_t <- A_t / max(H_i / mean(H_i | group), floor),  H_i = mean(H_t | tokens of the episode)"
    reads: ClassVar[frozenset[str]] = frozenset({"entropy_T"})

    floor: float = 0.1
    """Smallest divisor; raising it bounds what certainty can add."""

    def __post_init__(self) -> None:
        within(self, floor=(1e-9, 1))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        if columns.entropy_T is None:
            raise ValueError("ByEntropy needs columns.entropy_T, the entropy at each action token")
        episodes, episode_T = len(columns.final_E), columns.episode_S[columns.row_T]
        tokens_E = np.maximum(np.bincount(episode_T, minlength=episodes), 1)
        own_E = np.bincount(episode_T, columns.entropy_T, episodes) / tokens_E
        count = np.maximum(np.bincount(columns.group_E, columns.valid_E), 1.0)
        mean_E = (np.bincount(columns.group_E, columns.valid_E * own_E) / count)[columns.group_E]
        relative_E = np.divide(own_E, mean_E, out=np.ones(episodes), where=mean_E > 0)
        return advantage_T / np.maximum(relative_E, self.floor)[episode_T]


@checked
class HardGroups:
    """Groups of which less than half is right count more.  With deviations, n episodes of which a share u is right sum to advantages of
    2 n sqrt(u (1 - u)): hard tasks, whose u is small, are heard least.  [DARS, arXiv 2508.13755]

    The paper samples hard tasks more often; here their advantages weigh as much as if it had, which is the same in expectation.
    """

    by: Literal["equal", "hardness"] = "equal"
    """"equal": as if half were right; "hardness": that times 2 (1 - u), so that the hardest count most."""
    most: float = 4.0
    """Largest weight."""

    @property
    def formula(self) -> str:
        harder = " 2 (1 - u)" if self.by == "hardness" else ""
        return (
            f"A_t <- A_t min(0.5 / sqrt(u (1 - u)){harder}, most)  for groups whose share of successes u lies between 0 and 1/2"
        )

    def __post_init__(self) -> None:
        within(self, most=(1, INF))

    def __call__(self, columns: Columns, advantage_T: Floats) -> Floats:
        count = np.maximum(np.bincount(columns.group_E, columns.valid_E), 1.0)
        u = np.bincount(columns.group_E, columns.valid_E & columns.success_E) / count
        hard = (u > 0) & (u < 0.5)
        weight = 0.5 / np.sqrt(np.where(hard, u * (1 - u), 0.25)) * np.where(hard & (self.by == "hardness"), 2 * (1 - u), 1.0)
        return advantage_T * np.minimum(weight, self.most)[columns.group_S[columns.row_T]]
