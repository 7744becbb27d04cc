"""What a curriculum plays before its tasks are there: proposals, by the players of the step, trained with the step's episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sojourn.core import Episode, EpisodeGroup, Task
from sojourn.policy.session import stable_hash
from sojourn.training.players import Player, cast_of
from sojourn.training.rollout import Rollout


@dataclass
class Plays:
    """The `play` of one step; see `curriculum.Play`.  groups: what it has played."""

    rollout: Rollout
    players: Iterable[Player]
    step: int
    seed: int
    done: Callable[[Episode], None]
    warming_up: bool
    groups: list[EpisodeGroup] = field(default_factory=list)

    async def __call__(
        self, tasks: Sequence[Task], *, size: int, environment: Any = None, program: Any = None
    ) -> list[EpisodeGroup]:
        if self.warming_up:
            raise ValueError(
                "a curriculum that plays has nothing to imitate: warm up in a run of its own, and let warmup_steps be 0"
            )
        rollout = replace(
            self.rollout, environment=environment or self.rollout.environment, program=program or self.rollout.program
        )
        number = stable_hash(self.step, "play", len(self.groups))
        fresh = await rollout.groups(
            tasks,
            size=size,
            seed=stable_hash(self.seed, "play"),
            start=len(self.groups),
            done=self.done,
            policies=cast_of(self.players, number, len(tasks)),
        )
        self.groups += [replace(group, key=f"play {group.key}") for group in fresh]
        return fresh
