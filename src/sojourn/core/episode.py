"""Episodes and groups of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sojourn.core.outcome import Failure, FailureKind, StopReason, total
from sojourn.core.task import Task
from sojourn.core.trajectory import TrajectoryTree


@dataclass(slots=True)
class Episode:
    """One run of an agent program on one task.

    actions: ids of its action spans, in the order they were sampled, over all its contexts.
    leaves: the span at which each of its contexts ends.
    reward: named terms paid at the end, for the episode as a whole; terms paid for single actions lie on their spans.
    """

    id: str
    task: Task
    tree: TrajectoryTree
    actions: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    reward: dict[str, float] = field(default_factory=dict)
    stop: StopReason | None = None
    failures: list[Failure] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def valid(self) -> bool:
        """False when the infrastructure failed: then the episode says nothing about the policy."""
        return not any(failure.kind is FailureKind.INFRASTRUCTURE for failure in self.failures)

    @property
    def rewards(self) -> Mapping[str, float]:
        """All named terms, those on spans and the final ones, summed by name."""
        terms = dict(self.reward)
        for span in self.actions:
            for name, value in self.tree[span].reward.items():
                terms[name] = terms.get(name, 0.0) + value
        return terms

    @property
    def total(self) -> float:
        """The undiscounted return."""
        return total(self.rewards)

    @property
    def success(self) -> bool:
        """Whether the task was solved: the environment's `info["success"]`, else a positive return."""
        return bool(self.info["success"]) if "success" in self.info else self.total > 0


@dataclass(slots=True)
class EpisodeGroup:
    """Episodes that share a task, a world seed and a tree.  `key` is the group's identity; nothing else is."""

    key: str
    task: Task
    tree: TrajectoryTree
    episodes: list[Episode] = field(default_factory=list)

    @property
    def valid(self) -> list[Episode]:
        return [episode for episode in self.episodes if episode.valid]
