"""What tree credit follows where episodes really fork: two first choices, and after each of them two second ones.

All such trees are enumerated with their chances; advantages are written down from the four leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement
from typing import TypeVar

import numpy as np
import pytest
from tabular import Adam, Batch, Fed, Floats, Path, World, ascent, softmax

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup
from sojourn.credit import columns
from sojourn.objectives.presets import preset

POLICY = softmax(np.array([[0.6, -0.3], [0.1, -0.1]]))
ZEROS = np.zeros((1, 2))
FED = Fed(policy=POLICY, reference=POLICY, before=ZEROS, chosen=np.zeros((1, 2, 2)))
AFTER = [World(turns=1, start=state).paths for state in (0, 1)]
"""What one turn can bring from each state."""
TOKENS = 12

Branch = tuple[Path, Path, Path]
"""A first choice and two that follow it."""
T = TypeVar("T")


def unordered(options: Iterable[T]) -> list[tuple[T, T, int]]:
    """Pairs of options, and in how many orders each comes."""
    numbered = list(enumerate(options))
    return [(one, two, 1 if i == j else 2) for (i, one), (j, two) in combinations_with_replacement(numbered, 2)]


@cache
def trees() -> list[tuple[float, Branch, Branch]]:
    branches = [((first, one, two), orders) for first in AFTER[0] for one, two, orders in unordered(AFTER[first.last])]
    return [
        (orders * (n * m) * float(np.prod([path.chance(POLICY) for path in (*left, *right)])), left, right)
        for (left, n), (right, m), orders in unordered(branches)
    ]


@cache
def batches() -> list[Batch]:
    return [Batch(columns([planted(left, right)]), (*left, *right), chance) for chance, left, right in trees()]


def planted(*branches: Branch) -> EpisodeGroup:
    """One episode; what a turn earned is paid on it, the prize too."""
    turn = [[Turn(2, reward=float(path.earned[0])) for path in branch] for branch in branches]
    return group([Script([], branches=[Script([a], branches=[Script([b]), Script([c])]) for a, b, c in turn])])


Advantages = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""From the rewards of the first choices (2,) and of the leaves (2, 2) to advantages of both."""


def scored(path: Floats) -> Floats:
    return (path - path.mean()) / path.std(ddof=1) if np.ptp(path) else np.zeros((2, 2))


def soft(first: Floats, leaves: Floats) -> tuple[Floats, Floats]:
    """ARPO: what both leaves below have in common gets the sum of their advantages."""
    score = scored(first[:, None] + leaves)
    return score.sum(1), score


def hard(first: Floats, leaves: Floats) -> tuple[Floats, Floats]:
    """The same with the mean."""
    score = scored(first[:, None] + leaves)
    return score.mean(1), score


def siblings(first: Floats, leaves: Floats) -> tuple[Floats, Floats]:
    """TreeRPO: V is what follows, the mean over branches; against the siblings, by the deviation of a coin with their mean."""

    def against(value: Floats) -> Floats:
        mean = value.mean(-1, keepdims=True)
        return np.where(
            np.ptp(value, axis=-1, keepdims=True) > 0, (value - mean) / np.sqrt(np.maximum(mean * (1 - mean), 1e-9)), 0.0
        )

    return against(first + leaves.mean(1)), against(leaves)


def ancestors(first: Floats, leaves: Floats) -> tuple[Floats, Floats]:
    """TreePO: V is the mean over the leaves below; against each prefix above, then over the deviation of the batch's tokens."""
    path = first[:, None] + leaves
    inner, whole = path.mean(1), path.mean()
    gaps = inner - whole, path - (inner[:, None] + whole) / 2
    tokens = np.repeat(np.concatenate([gap.reshape(-1) for gap in gaps]), 2)
    spread = tokens.std(ddof=1) if np.ptp(path) else 1.0
    return gaps[0] / spread, gaps[1] / spread


def expected(advantages: Advantages) -> Floats:
    total = np.zeros((2, 2))
    for chance, *branches in trees():
        first = np.array([branch[0].earned[0] for branch in branches])
        leaves = np.array([[path.earned[0] for path in branch[1:]] for branch in branches])
        high, low = advantages(first, leaves)
        for branch, above, below in zip(branches, high, low, strict=True):
            for path, advantage in zip(branch, (above, *below), strict=True):
                total += chance / TOKENS * advantage * path.scores(POLICY)[0]
    return total


def test_the_trees_are_all_there_are() -> None:
    assert sum(chance for chance, *_ in trees()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "advantages"), [("arpo", soft), ("arpo_hard", hard), ("tree_rpo", siblings), ("tree_po", ancestors)]
)
def test_the_expected_gradient_over_all_trees(name: str, advantages: Advantages) -> None:
    written = expected(advantages)
    assert ascent(preset(name), batches(), FED) == pytest.approx(written, rel=1e-4, abs=1e-4 * np.abs(written).max())


@pytest.mark.parametrize("name", ["arpo", "arpo_hard", "tree_rpo", "tree_po"])
def test_sampled_trees_lead_to_the_prize(name: str) -> None:
    """The first choice that leads on, and the second that takes the prize."""
    draw, climb, logits = np.random.default_rng(0), Adam(0.15), np.array([[0.4, -0.4], [-0.4, 0.4]])

    def played(policy: Floats, state: int) -> Path:
        paths = World(turns=1, start=state, pay=((0.0, 0.0625), (0.0, 0.0))).paths
        return paths[draw.choice(len(paths), p=[path.chance(policy) for path in paths])]

    for _ in range(40):
        policy = softmax(logits)
        firsts = [(played(policy, 0), played(policy, 0)) for _ in range(12)]
        forks = [[(first, played(policy, first.last), played(policy, first.last)) for first in pair] for pair in firsts]
        batch = Batch(columns([planted(*pair) for pair in forks]), [path for pair in forks for branch in pair for path in branch])
        logits = logits + climb(ascent(preset(name), [batch], replace(FED, policy=policy, reference=policy)))
    assert softmax(logits)[[0, 1], [1, 0]].min() > 0.9
