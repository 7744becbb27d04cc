"""TreeBatch: the tokens of many episodes, each unique prefix once, and which of them are trained.

Paths are merged by token ids into one trie: a system prompt that all groups share, the prompt of a group, and also what two
answers happened to sample alike are computed once.  Tokens lie in depth-first order; with `end[k]` the end of the subtree of
token `k`, token `q` sees token `k` exactly when `k <= q < end[k]`.  What is trained is a list of *entries*: a token sampled after
a place in the trie.  Several entries may share a place; their losses add up, so merging changes cost and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sojourn.core import Ints, TrajectoryTree
from sojourn.engine.sampling import legal_next

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """N unique tokens in depth-first order, and T trained entries.

    token, position, end: (N,).  position is the depth in the tree.
    query: (T,), the flat index of the token whose logits predict the entry.  target: (T,), the id that was sampled.
    row: (T,), the index of the entry in the caller's numbering.
    legal: of entries that were restricted when they were sampled, the ids that were legal.
    """

    token: Ints
    position: Positions
    end: Positions
    query: Positions
    target: Ints
    row: Positions
    legal: Mapping[int, Ints]

    def __len__(self) -> int:
        return len(self.token)

    def visible(self) -> NDArray[np.bool_]:
        """The dense mask (N, N), query by key: for tests and small cases."""
        q, k = np.arange(len(self))[:, None], np.arange(len(self))[None]
        return (k <= q) & (q < self.end[None])


Part: TypeAlias = tuple[TrajectoryTree, int, Positions]
"""A span to be trained: its tree, its id, and the row of each of its tokens or -1 for a token that is not trained."""


def cut(parts: Sequence[Part], episodes: Sequence[int], token_budget: int) -> list[list[Part]]:
    """Parts of whole episodes, of at most `token_budget` unique tokens together where one episode allows it.

    episodes: of each part; parts of one episode lie together.
    """
    result: list[list[Part]] = []
    trie = Trie()
    for _, members in groupby(zip(episodes, parts, strict=True), key=lambda each: each[0]):
        own = [part for _, part in members]
        paths = [tree.tokens(span) for tree, span, _ in own]
        for path in paths:
            trie.insert(path, -1)
        if not result or len(trie) > token_budget:
            result.append([])
            trie = Trie()
            for path in paths:
                trie.insert(path, -1)
        result[-1] += own
    return result


def build(parts: Iterable[Part]) -> TreeBatch:
    """Merge trained action spans into one batch.

    One row more than a span has tokens stands for the state after it; its entry has the target -1.
    """
    trie = Trie()
    query: list[int] = []
    target: list[int] = []
    row: list[int] = []
    legal: dict[int, Ints] = {}
    for tree, span, rows in parts:
        node = trie.insert(tree.tokens(tree[span].parent), -1)
        tokens, wanted = tree[span].tokens.tolist(), np.flatnonzero(rows >= 0).tolist()
        done = 0
        for at in wanted:  # what comes after the last of them is not needed
            node, done = trie.insert(tokens[done:at], node), at
            if (allowed := tree[span].allowed) is not None:
                legal[len(row)] = np.asarray(legal_next(allowed, tokens[:at]), np.int64)
            query.append(node)
            target.append(tokens[at] if at < len(tokens) else -1)
            row.append(int(rows[at]))
    order, position, end = trie.depth_first()
    where = np.empty(len(order), np.int64)
    where[order] = np.arange(len(order))
    return TreeBatch(
        np.asarray(trie.token, np.int64)[order],
        position,
        end,
        where[np.asarray(query, np.int64)],
        np.asarray(target, np.int64),
        np.asarray(row, np.int64),
        legal,
    )


class Trie:
    """Token sequences merged where they begin alike; nodes are numbered in the order they come, -1 is the root."""

    def __init__(self) -> None:
        self.child: dict[tuple[int, int], int] = {}
        self.token: list[int] = []
        self.parent: list[int] = []

    def __len__(self) -> int:
        return len(self.token)

    def insert(self, tokens: Sequence[int] | Ints, node: int) -> int:
        for token in tokens.tolist() if isinstance(tokens, np.ndarray) else tokens:
            child = self.child.setdefault((node, token), len(self.token))
            if child == len(self.token):
                self.token.append(token)
                self.parent.append(node)
            node = child
        return node

    def depth_first(self) -> tuple[Positions, Positions, Positions]:
        """Nodes in depth-first order, and for each place in that order its depth and the end of its subtree."""
        children: list[list[int]] = [[] for _ in self.token]
        roots: list[int] = []
        for node, parent in enumerate(self.parent):
            (children[parent] if parent >= 0 else roots).append(node)
        size = [1] * len(self.token)
        for node in range(len(self.token) - 1, -1, -1):  # a child has a higher number than its parent
            if self.parent[node] >= 0:
                size[self.parent[node]] += size[node]
        order, depth = [], []
        stack = [(root, 0) for root in reversed(roots)]
        while stack:
            node, d = stack.pop()
            order.append(node)
            depth.append(d)
            stack += [(child, d + 1) for child in reversed(children[node])]
        index = np.asarray(order, np.int64)
        end = np.arange(len(order)) + np.asarray(size, np.int64)[index] if order else index
        return index, np.asarray(depth, np.int64), end
