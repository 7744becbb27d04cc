"""From episode groups to columns: the one place where credit reads a trajectory tree."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.core import ROOT, EpisodeGroup, Kind, Reward, Standing, TrajectoryTree, total
from sojourn.credit.columns import Columns


def columns(groups: Sequence[EpisodeGroup], *, trained: Collection[str] | None = None, imitate: bool = False) -> Columns:
    """Read groups of episodes.

    trained: names of the policies that are trained; None trains all.  imitate: train what was put into their mouths (`Kind.FORCED`) as
    well, for objectives that say again what was said; a policy gradient has no use for tokens that nobody sampled.
    A reward on an observation goes to the action that caused it; raises ValueError if there is none, or for an action without tokens.
    """
    rows = _Rows(trained, imitate)
    for group in groups:
        rows.read(group)
    return rows.finish()


class _Rows:
    """Collects lists, then freezes them."""

    def __init__(self, trained: Collection[str] | None, imitate: bool) -> None:
        self.trained, self.imitate = trained, imitate
        self.spans: dict[str, list[float]] = {name: [] for name in _SPAN_FIELDS}
        self.episodes: dict[str, list[float]] = {name: [] for name in _EPISODE_FIELDS}
        self.terms: list[dict[str, float]] = []
        self.span_terms: list[dict[str, float]] = []
        self.logp: list[NDArray[np.float32]] = []
        self.values: list[float | None] = []
        self.codes: dict[Hashable, int] = {}
        self.groups = 0

    def read(self, group: EpisodeGroup) -> None:
        """Add a row for each action of each episode of a group, and a row for each episode."""
        tree = group.tree
        actions = [(len(self.terms) + e, span) for e, episode in enumerate(group.episodes) for span in episode.actions]
        row_of = {span: len(self.spans["span_S"]) + k for k, (_, span) in enumerate(actions)}
        caused = _observation_rewards(tree, row_of, group.key)
        for episode_row, span in actions:
            self._span(tree, span, episode_row, row_of, caused.get(span, {}), f"{group.key}/{self.groups}")
        for episode in group.episodes:
            terms = _sum_terms(episode.rewards, *(caused[span] for span in episode.actions if span in caused))
            if strange := [name for name, value in terms.items() if episode.valid and not isfinite(value)]:
                raise ValueError(f"episode {episode.id}: reward '{strange[0]}' is {terms[strange[0]]}; pay finite numbers")
            self.terms.append(terms)
            stop = episode.stop
            values = (
                self.groups,
                total(episode.reward) + sum(map(total, episode.paid.values())),
                episode.valid,
                episode.standing < Standing.UNUSABLE,
                stop is not None and stop.bootstraps,
                episode.success,
            )
            for name, value in zip(_EPISODE_FIELDS, values, strict=True):
                self.episodes[name].append(float(value))
        self.groups += 1

    def _span(self, tree: TrajectoryTree, span: int, episode: int, row_of: dict[int, int], caused: Reward, group: str) -> None:
        """Add the row of an action.  row_of: rows of the group's actions by span; caused: rewards of observations that it caused."""
        node = tree[span]
        cause = _action_before(tree, node.parent, node.source, row_of)
        terms = _sum_terms(node.reward, caused)
        if not len(node.tokens):  # its reward would land on a token of another action
            raise ValueError(
                f"group {group}: action span {span} has no tokens, so nothing can carry its reward; record an action of one token or more"
            )
        forced = node.kind != Kind.ACTION
        anchor = -1 if node.anchor is None else self._code(("anchor", group, node.anchor))
        values = (
            span,
            -1 if cause is None else row_of[cause],
            node.turn,
            self._code(("context", group, tree.path(span)[0])),
            episode,
            self._code(("agent", node.agent)),
            anchor,
            len(node.tokens),
            total(terms),
            len(node.message.calls) if node.message else 0,
            (self.trained is None or node.policy in self.trained) and (self.imitate or not forced),
            forced,
            node.cut,
        )
        for name, value in zip(_SPAN_FIELDS, values, strict=True):
            self.spans[name].append(float(value))
        self.span_terms.append(terms)
        self.values.append(node.value)
        self.logp.append(np.zeros(len(node.tokens), np.float32) if node.logprobs is None else node.logprobs)

    def _code(self, key: tuple[Hashable, ...]) -> int:
        """Consecutive numbers for each kind of key."""
        if key not in self.codes:
            self.codes[key] = self.codes.get(key[0], 0)
            self.codes[key[0]] = self.codes[key] + 1
        return self.codes[key]

    def finish(self) -> Columns:
        """The lists as arrays."""
        names = sorted({name for terms in self.terms for name in terms})
        arrays: dict[str, Any] = {name: np.array(values, _dtype(name)) for name, values in (self.spans | self.episodes).items()}
        return Columns(
            **arrays,
            value_S=None if None in self.values else np.array(self.values, np.float64),
            terms_S={name: np.array([terms.get(name, np.nan) for terms in self.span_terms]) for name in names},
            terms_E={name: np.array([terms.get(name, 0.0) for terms in self.terms]) for name in names},
            logp_T=np.concatenate([np.zeros(0), *self.logp]).astype(np.float64),
        )


_SPAN_FIELDS = (
    "span_S", "parent_S", "turn_S", "context_S", "episode_S", "agent_S", "anchor_S", "length_S", "reward_S", "calls_S",
    "trained_S", "forced_S", "cut_S",
)  # fmt: skip
_EPISODE_FIELDS = ("group_E", "final_E", "valid_E", "usable_E", "bootstraps_E", "success_E")
_FLAGS = ("trained_S", "forced_S", "cut_S", "valid_E", "usable_E", "bootstraps_E", "success_E")


def _dtype(name: str) -> type[np.generic]:
    if name in ("reward_S", "final_E"):
        return np.float64
    return np.bool_ if name in _FLAGS else np.int64


def _action_before(tree: TrajectoryTree, parent: int, source: int | None, rows: dict[int, int]) -> int | None:
    """The nearest action of these rows above a node, crossing from a rewritten context's root to its source."""
    span = source if parent == ROOT else parent
    while span is not None and span not in rows:
        span = tree[span].source if tree[span].parent == ROOT else tree[span].parent
    return span


def _sum_terms(*rewards: Reward) -> dict[str, float]:
    terms: dict[str, float] = {}
    for name, value in (item for reward in rewards for item in reward.items()):
        terms[name] = terms.get(name, 0.0) + value
    return terms


def _observation_rewards(tree: TrajectoryTree, rows: dict[int, int], key: str) -> dict[int, dict[str, float]]:
    """Reward terms that lie on observations, by the action that caused them."""
    caused: dict[int, dict[str, float]] = {}
    for span, node in enumerate(tree.spans):
        if node.kind != Kind.OBSERVATION or not node.reward:  # another agent's actions are no observations
            continue
        cause = _action_before(tree, node.parent, node.source, rows)
        if cause is None:
            raise ValueError(
                f"group {key}: span {span} is no action and carries reward {dict(node.reward)}, but no action precedes it; "
                "pay it to an action (session.reward) or to the episode (episode.reward)"
            )
        caused[cause] = _sum_terms(caused.get(cause, {}), node.reward)
    return caused
