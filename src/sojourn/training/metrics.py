"""What a step came to, in numbers: means over its episodes, what the curriculum hears, and advantages by group for the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sojourn.core import Episode, EpisodeGroup
from sojourn.credit import Columns
from sojourn.curriculum import Outcome


def entropy_estimate(table: Columns) -> float:
    """Mean surprise of the tokens that statistics count: an estimate of the policy's entropy, in nats."""
    counted_T = (table.trained_S & table.valid_E[table.episode_S])[table.row_T]
    assert table.logp_T is not None, "the engine reports log-probabilities"
    return -float(table.logp_T[counted_T].mean()) if counted_T.any() else 0.0


def outcome(group: EpisodeGroup) -> Outcome | None:
    if not group.valid:
        return None
    returns = {episode.total for episode in group.valid}
    return Outcome(group.task, float(np.mean([e.success for e in group.valid])), len(returns) == 1)


def statistics(groups: Sequence[EpisodeGroup]) -> dict[str, float]:
    """Means over the valid episodes of a step, and what became of the others."""
    episodes = [episode for group in groups for episode in group.valid]
    everyone = [episode for group in groups for episode in group.episodes]
    logprobs = [episode.tree[span].logprobs for episode in episodes for span in episode.actions]
    result = {
        "episodes": float(len(episodes)),
        "failed": float(len(everyone) - len(episodes)),
        "reward": float(np.mean([e.total for e in episodes])),
        "success": float(np.mean([e.success for e in episodes])),
        "turns": float(np.mean([len(e.actions) for e in episodes])),
        "tool_calls": float(np.mean([e.info.get("tool_calls", 0) for e in episodes])),
        "length": float(np.mean([sampled_tokens(e) for e in episodes])),
        "action_tokens": float(sum(sampled_tokens(e) for e in everyone)),
    }
    if sampled := [part for part in logprobs if part is not None]:  # a demonstration has none
        # the mean surprise of all sampled tokens; the learner's own entropy is of the tokens that it had to score
        result["entropy"] = -float(np.mean(np.concatenate(sampled)))
    by_level: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_level[episode.task.level].append(episode)
    for level, members in sorted(by_level.items()):
        result[f"success/{level}"] = float(np.mean([e.success for e in members]))
        result[f"share/{level}"] = len(members) / len(episodes)
    return result


def sampled_tokens(episode: Episode) -> int:
    return sum(len(episode.tree[span].tokens) for span in episode.actions)


def advantages_by_group(
    groups: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64]
) -> list[dict[int, NDArray[np.float32]]]:
    group_of_row = [index for index, group in enumerate(groups) for episode in group.episodes for _ in episode.actions]
    result: list[dict[int, NDArray[np.float32]]] = [{} for _ in groups]
    for row, group in enumerate(group_of_row):
        part = advantage_T[table.start_S[row] : table.start_S[row + 1]]
        result[group][int(table.span_S[row])] = part.astype(np.float32)
    return result
