"""Stored episodes in place of a rollout: the training groups of a run, or the rows of a data set, dealt again and again.

The one idea: whatever they come from, they are groups of episodes, and a step's groups are a function of the step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup
from sojourn.credit import Credit
from sojourn.data import Data, Kind, read, to_groups
from sojourn.objectives import Objective, imitates
from sojourn.objectives.inputs import compares
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.store import read_episodes
from sojourn.store.episodes import Row, rebuild
from sojourn.training.algorithm import no_credit


class Stored:
    """The groups of `source`, a run folder or a data set, in an order of their own each time around.

    kinds: what a data set may hold (`kinds_for`).  Its groups are there once it was rendered.
    Raises `ValueError` if there is nothing to learn from.
    """

    def __init__(self, source: str | Path, *, seed: int, kinds: Sequence[Kind] = ()) -> None:
        self._seed = seed
        self.data: Data | None = None if is_run(source) else _answers(str(source), kinds)
        self.groups = [] if self.data else _of_run(source)

    @property
    def largest(self) -> int:
        """Episodes of the largest group."""
        return max(len(r.answers) for r in self.data.records) if self.data else max(len(g.episodes) for g in self.groups)

    def render(self, renderer: ChatRenderer, *, most: int, policy: str) -> None:
        """Make groups of a data set's rows, of at most `most` tokens; those of a run are there already."""
        if self.data:
            self.groups, self.data = to_groups(self.data, renderer, most=most, policy=policy)

    def deal(self, step: int, count: int) -> list[EpisodeGroup]:
        """The groups of a step; a function of the step alone."""
        size, first = len(self.groups), step * count
        rounds = range(first // size, (first + count - 1) // size + 1)
        order = np.concatenate([self._order(each) for each in rounds])[first - rounds.start * size :]
        return [self.groups[place] for place in order[:count]]

    def _order(self, round_number: int) -> NDArray[np.int64]:
        return np.random.default_rng(stable_hash(self._seed, "stored", round_number)).permutation(len(self.groups))


def kinds_for(objective: Objective, credit: Credit | None) -> tuple[Kind, ...]:
    """The kinds of data that an algorithm learns from, best first; for one that does not imitate, prompts."""
    if not imitates(objective):
        return ("prompt",)
    if compares(objective):
        return ("preference", "logged", "verdict")
    return ("supervised",) if credit in (None, no_credit) else ("logged", "verdict", "preference")


def is_run(source: str | Path) -> bool:
    return (Path(source) / "starts.jsonl").exists() or (Path(source) / "episodes").is_dir()


def _answers(source: str, kinds: Sequence[Kind]) -> Data:
    if kinds == ("prompt",):  # tokens whose probability of sampling nobody knows are no use to a policy gradient
        raise ValueError(
            f"data {source}: this algorithm learns from what its own policy samples, so answers teach it nothing; choose one that imitates "
            "(sft, dpo, kto, awr), or give it prompts and a reward: sojourn train grpo --data FILE --reward FILE.py:function"
        )
    return read(source, kinds)


def _of_run(run: str | Path) -> list[EpisodeGroup]:
    rows = sorted(read_episodes(run, "phase = 'train'"), key=_key)
    groups = [rebuild(members) for _, members in groupby(rows, key=_key)]
    if not groups:
        raise ValueError(f"run folder {run}: it kept no training episodes (train it with keep_episodes_every above 0)")
    return groups


def _key(row: Row) -> tuple[int, str]:
    return row["step"], row["group"]
