"""What came of a step's groups: for the curriculum that chose them, and for the store that keeps them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns
from sojourn.curriculum import Outcome
from sojourn.training.learning import Learned
from sojourn.training.metrics import advantages_by_span, outcome
from sojourn.training.players import Player

Last = Iterable[tuple[Sequence[EpisodeGroup], Learned]]
"""What each role learned from in a step, and what came of it."""


def outcomes(groups: Sequence[EpisodeGroup], learners: Sequence[Player], last: Last = ()) -> list[Outcome]:
    """What the curriculum hears of its groups; `last` is empty before anything is learned."""
    advantage: dict[int, float] = {}
    for own, learned in last:
        advantage |= mean_advantages(own, learned.table, learned.advantage_T)
    views = [{player.name: own for player in learners if (own := player.lived([group]))} for group in groups]
    found = [outcome(group, view, advantage.get(id(group.tree), 0.0)) for group, view in zip(groups, views, strict=True)]
    return [each for each in found if each is not None]


def mean_advantages(own: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64]) -> dict[int, float]:
    """By the identity of its tree the mean |A| of a group: over an episode's tokens, then over its episodes."""
    episode_T = table.episode_S[table.row_T]
    tokens_E = np.bincount(episode_T, minlength=len(table.group_E))
    mean_E = np.bincount(episode_T, np.abs(advantage_T), len(table.group_E)) / np.maximum(tokens_E, 1)
    found: dict[int, list[float]] = defaultdict(list)
    for number, group in enumerate(own):
        found[id(group.tree)] += mean_E[(table.group_E == number) & (tokens_E > 0)].tolist()
    return {tree: float(np.mean(values)) for tree, values in found.items() if values}


def advantages(groups: Sequence[EpisodeGroup], last: Last) -> list[dict[int, NDArray[np.float32]]]:
    """For each group the advantages of its action spans, whoever learned from them."""
    found: dict[int, dict[int, NDArray[np.float32]]] = {id(group.tree): {} for group in groups}
    for own, learned in last:
        for group, given in zip(own, advantages_by_span(own, learned.table, learned.advantage_T), strict=True):
            found[id(group.tree)] |= given
    return [found[id(group.tree)] for group in groups]
