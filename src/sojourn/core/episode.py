"""Episodes and groups of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sojourn.core.outcome import Failure, Standing, StopReason, total
from sojourn.core.task import Task
from sojourn.core.trajectory import ROOT, Kind, TrajectoryTree


@dataclass(slots=True)
class Episode:
    """One run of an agent program on one task.

    actions: ids of its action spans, in the order they were sampled, over all its contexts.
    leaves: the span at which each of its contexts ends.
    reward: named terms paid at the end, for the episode as a whole; terms paid for single actions lie on their spans.
    paid: named terms paid to single agents at the end, by agent; together with those on their spans they are what the agent earned.
    attempts: times that it was played; more than 1 where the infrastructure failed before.
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
    paid: dict[str, dict[str, float]] = field(default_factory=dict)
    attempts: int = 1

    @property
    def standing(self) -> Standing:
        """What its data are good for: as its worst failure says."""
        return max((failure.effect for failure in self.failures), default=Standing.VALID)

    @property
    def valid(self) -> bool:
        """False when it says nothing about the policy: something broke that is not the policy's doing."""
        return self.standing is not Standing.NO_RESULT

    @property
    def sampled(self) -> int:
        """Tokens that policies sampled; what the harness put into their mouths does not count."""
        spans = (self.tree[action] for action in self.actions)
        return sum(len(span.tokens) for span in spans if span.kind == Kind.ACTION)

    @property
    def branches(self) -> list[list[int]]:
        """Its actions from the first to one that no other follows, for every such last action; across rewritten contexts.

        A conversation is one branch, a search tree has many, and two agents in contexts of their own have one each.
        """
        own, before = set(self.actions), dict[int, int]()
        for action in self.actions:
            span = action
            while span == action or (span != ROOT and span not in own):
                node = self.tree[span]
                span = node.source if node.parent == ROOT and node.source is not None else node.parent
            before[action] = span
        followed, found = set(before.values()), []
        for action in self.actions:
            branch = [] if action in followed else [action]
            while branch and before[branch[-1]] != ROOT:
                branch.append(before[branch[-1]])
            found += [branch[::-1]] if branch else []
        return found

    @property
    def returns(self) -> list[float]:
        """The undiscounted return of each branch."""
        final = total(self.reward) + sum(map(total, self.paid.values()))
        return [sum(total(self.tree[span].reward) for span in branch) + final for branch in self.branches or [[]]]

    @property
    def rewards(self) -> Mapping[str, float]:
        """All named terms, those on spans and the final ones, summed by name.

        Of branches that begin with one prompt it is their mean: a search that found the goal on four of four branches has not earned it
        four times.  Contexts that are not linked (two agents who talk) are no branches of each other, and add up.
        """
        branches = self.branches
        starts = [self.tree.path(branch[0])[0] for branch in branches]
        terms = dict(self.reward)
        for name, value in (item for paid in self.paid.values() for item in paid.items()):
            terms[name] = terms.get(name, 0.0) + value
        for branch, start in zip(branches, starts, strict=True):
            for span in branch:
                for name, value in self.tree[span].reward.items():
                    terms[name] = terms.get(name, 0.0) + value / starts.count(start)
        return terms

    @property
    def total(self) -> float:
        """The undiscounted return: the sum of `rewards`."""
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
