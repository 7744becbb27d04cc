"""What a step came to, in numbers: means over its episodes, what the curriculum hears, and advantages by group for the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.core import Episode, EpisodeGroup, Kind
from sojourn.credit import Columns
from sojourn.curriculum import Outcome
from sojourn.training.evaluations import said_last


def entropy_estimate(table: Columns) -> float:
    """Mean NLL of the sampled tokens that statistics count: an estimate of the policy's entropy, in nats."""
    counted_S = table.trained_S & table.valid_E[table.episode_S]
    if table.forced_S is not None:
        counted_S &= ~table.forced_S
    counted_T = counted_S[table.row_T]
    assert table.logp_T is not None, "the engine reports log-probabilities"
    return -float(table.logp_T[counted_T].mean()) if counted_T.any() else 0.0


def outcome(group: EpisodeGroup, views: Mapping[str, Sequence[EpisodeGroup]], advantage: float = 0.0) -> Outcome | None:
    """What the curriculum hears of a group, of which `views` are what each role that learns lived; None if nothing of it is valid.

    A group teaches if somebody's branches earned differently.
    """
    if not group.valid:
        return None
    silent = all(len({earned for e in each.valid for earned in e.returns}) == 1 for own in views.values() for each in own)
    returns = {name: tuple(e.total for each in own for e in each.valid) for name, own in views.items()}
    answers = tuple(said_last(e) for e in group.valid)
    return Outcome(group.task, float(np.mean([e.success for e in group.valid])), silent, returns, advantage, answers)


def statistics(groups: Sequence[EpisodeGroup]) -> dict[str, Any]:
    """Means over the valid episodes of a step; what they earned by term, how they stopped, and what failed."""
    episodes = [episode for group in groups for episode in group.valid]
    everyone = [episode for group in groups for episode in group.episodes]
    spread = [np.std([e.total for e in group.valid]) for group in groups if group.valid]
    result: dict[str, Any] = {
        "episodes": float(len(episodes)),
        "failed": float(len(everyone) - len(episodes)),
        "reward": float(np.mean([e.total for e in episodes])),
        "reward_std": float(np.mean(spread)),
        "success": float(np.mean([e.success for e in episodes])),
        "turns": float(np.mean([len(e.actions) for e in episodes])),
        "tool_calls": float(np.mean([e.info.get("tool_calls", 0) for e in episodes])),
        "length": float(np.mean([e.sampled for e in episodes])),
        "action_tokens": float(sum(e.sampled for e in everyone)),
        **_actions(episodes),
    }
    terms = [episode.rewards for episode in episodes]
    for name in sorted({name for each in terms for name in each}):
        result[f"reward/{name}"] = float(np.mean([each.get(name, 0.0) for each in terms]))
    stops = Counter(episode.stop.value for episode in episodes if episode.stop)
    result |= {f"stop/{reason}": count / len(episodes) for reason, count in sorted(stops.items())}
    by_level: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_level[episode.task.level].append(episode)
    for level, members in sorted(by_level.items()):
        result[f"success/{level}"] = float(np.mean([e.success for e in members]))
        result[f"share/{level}"] = len(members) / len(episodes)
    return result | failures(everyone)


EARNED = ("reward", "reward_std", "success", "stop", "turns", "tool_calls", "length")
"""Statistics that say how good somebody is."""


def of_the_oracle(told: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of demonstrations: what the oracle earned is no success of the policy.

    >>> of_the_oracle({"success/easy": 1.0, "episodes": 8.0})
    {'oracle/success/easy': 1.0, 'episodes': 8.0}
    """
    return {f"oracle/{name}" if name.partition("/")[0] in EARNED else name: value for name, value in told.items()}


def _actions(episodes: Sequence[Episode]) -> dict[str, float]:
    """Of what was sampled: the share of actions that were cut, and the mean NLL, which estimates the entropy; nothing for demonstrations.
    The learner's own entropy is of the tokens that it had to score."""
    spans = [episode.tree[span] for episode in episodes for span in episode.actions]
    sampled = [span for span in spans if span.kind == Kind.ACTION]
    nll = [-span.logprobs for span in sampled if span.logprobs is not None]
    if not nll:
        return {}
    return {"cut": float(np.mean([span.cut for span in sampled])), "entropy": float(np.mean(np.concatenate(nll)))}


def failures(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Failures by class (`failures/model`, ...), and the first message of one that cost an episode its result."""
    all_failures = [failure for episode in episodes for failure in episode.failures]
    counts = Counter(failure.kind.value for failure in all_failures)
    found: dict[str, Any] = {f"failures/{kind}": float(count) for kind, count in sorted(counts.items())}
    lost = [(e, f) for e in episodes if not e.valid for f in e.failures if f.effect is e.standing]
    if lost:
        episode, failure = lost[0]
        found["failure"] = f"{episode.id}, {failure.where}: {failure.message.strip()}"
    return found


def lost(groups: Sequence[EpisodeGroup]) -> dict[str, Any]:
    """How many episodes gave no result, with `failures`; nothing if all did."""
    everyone = [episode for group in groups for episode in group.episodes]
    count = sum(not episode.valid for episode in everyone)
    return {"failed": float(count), **failures(everyone)} if count else {}


def advantages_by_span(
    groups: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64]
) -> list[dict[int, NDArray[np.float32]]]:
    """For each group the advantages of its action spans."""
    group_of_row = [index for index, group in enumerate(groups) for episode in group.episodes for _ in episode.actions]
    result: list[dict[int, NDArray[np.float32]]] = [{} for _ in groups]
    for row, group in enumerate(group_of_row):
        own_T = advantage_T[table.start_S[row] : table.start_S[row + 1]]
        result[group][int(table.span_S[row])] = own_T.astype(np.float32)
    return result
