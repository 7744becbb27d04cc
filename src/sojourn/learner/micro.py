"""Micro-batches: which trained tokens are computed together.

The one idea: an episode is never cut, for its ratios and its losses need all of it; and a micro-batch holds no more unique tokens than fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup, TrajectoryTree
from sojourn.credit import Columns
from sojourn.learner.batch import Part, TreeBatch, build, cut


@dataclass(frozen=True, slots=True)
class Micro:
    """One micro-batch: `batch.row` numbers the T axis of the columns.  blind: the same entries behind other observations."""

    batch: TreeBatch
    temperature: float
    blind: TreeBatch | None = None


def micro_batches(
    groups: Sequence[EpisodeGroup],
    columns: Columns,
    needed_T: NDArray[np.bool_],
    token_budget: int,
    *,
    whole_groups: bool = False,
    blind: Sequence[TrajectoryTree] = (),
) -> list[Micro]:
    """Micro-batches of whole episodes, or of whole groups, of at most `token_budget` unique tokens each where one of them allows it.

    needed_T: the tokens that are computed.  blind: of each group its tree with other observations.
    """
    start = columns.start_S
    needed_S = np.asarray([needed_T[a:b].any() for a, b in pairwise(start)], bool)
    tree_of = [group.tree for group in groups for _ in group.episodes]
    parts: list[Part] = []
    for row in np.flatnonzero(needed_S).tolist():
        index = np.arange(start[row], start[row + 1])
        parts.append((tree_of[columns.episode_S[row]], int(columns.span_S[row]), np.where(needed_T[index], index, -1)))
    unit_S = columns.group_S if whole_groups else columns.episode_S
    behind = {id(group.tree): tree for group, tree in zip(groups, blind, strict=True)} if blind else {}
    return [
        Micro(
            build(each),
            temperature_of(each),
            build((behind[id(tree)], span, rows) for tree, span, rows in each) if behind else None,
        )
        for each in cut(parts, unit_S[needed_S].tolist(), token_budget)
    ]


def temperature_of(parts: Sequence[Part]) -> float:
    """The one temperature at which all these actions were sampled.  Raises `ValueError` where there is none that can be scored."""
    spans = [tree[span] for tree, span, _ in parts]
    if any(span.truncated for span in spans):
        raise ValueError(
            "trained actions were sampled with top_k, top_p or min_p, whose distribution the learner does not score: train on what was "
            "sampled from all tokens, and truncate in evaluation only"
        )
    found = {span.temperature for span in spans}
    if len(found) > 1 or 0 in found:
        raise ValueError(f"trained actions were sampled at temperatures {sorted(found)}: train on one temperature above 0")
    return found.pop()
