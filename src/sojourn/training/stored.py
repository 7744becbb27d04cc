"""Stored episodes in place of a rollout: a run's training groups, dealt again."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup
from sojourn.policy.session import stable_hash
from sojourn.store import read_episodes
from sojourn.store.episodes import Row, rebuild


class Stored:
    """The training groups of the run folder `run`, in an order of their own each time around.  Raises `ValueError` if it has none."""

    def __init__(self, run: str | Path, *, seed: int) -> None:
        self._seed = seed
        rows = sorted(read_episodes(run, "phase = 'train'"), key=_key)
        self.groups = [rebuild(members) for _, members in groupby(rows, key=_key)]
        if not self.groups:
            raise ValueError(f"run folder {run}: it kept no training episodes (train it with keep_episodes_every above 0)")

    def deal(self, step: int, count: int) -> list[EpisodeGroup]:
        """The groups of a step; a function of the step alone."""
        size, first = len(self.groups), step * count
        rounds = range(first // size, (first + count - 1) // size + 1)
        order = np.concatenate([self._order(each) for each in rounds])[first - rounds.start * size :]
        return [self.groups[place] for place in order[:count]]

    def _order(self, round_number: int) -> NDArray[np.int64]:
        return np.random.default_rng(stable_hash(self._seed, "stored", round_number)).permutation(len(self.groups))


def _key(row: Row) -> tuple[int, str]:
    return row["step"], row["group"]
