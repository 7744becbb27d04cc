"""Stored episodes in place of a rollout: a run's training groups, dealt again."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from sojourn.core import EpisodeGroup
from sojourn.policy.session import stable_hash
from sojourn.store import read_episodes
from sojourn.store.episodes import rebuild


class Stored:
    """The training groups of the run folder `run`, in an order of their own each time around.  Raises `ValueError` if it has none."""

    def __init__(self, run: str | Path, *, seed: int) -> None:
        self._seed = seed
        rows = read_episodes(run, "phase = 'train'")
        by_group = groupby(sorted(rows, key=lambda row: (row["step"], row["group"])), key=lambda row: (row["step"], row["group"]))
        self.groups = [rebuild(members) for _, members in by_group]
        if not self.groups:
            raise ValueError(f"run folder {run}: it kept no training episodes (train it with keep_episodes_every above 0)")

    def deal(self, step: int, count: int) -> list[EpisodeGroup]:
        """The groups of a step; a function of the step alone."""
        places = range(step * count, (step + 1) * count)
        return [self.groups[self._order(place // len(self.groups))[place % len(self.groups)]] for place in places]

    def _order(self, round_number: int) -> list[int]:
        order: list[int] = (
            np.random.default_rng(stable_hash(self._seed, "stored", round_number)).permutation(len(self.groups)).tolist()
        )
        return order
