"""Packing: every prefix once, every token sees its own past and nothing else, and blocks cover exactly that."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import ROOT, EpisodeGroup, Kind, Span, TrajectoryTree
from sojourn.learner.attention import blocks
from sojourn.learner.batch import TreeBatch, Trie, build

turns = st.builds(Turn, tokens=st.integers(1, 4), observation=st.integers(1, 3), rewrite=st.booleans())
scripts = st.recursive(
    st.builds(Script, turns=st.lists(turns, min_size=1, max_size=3)),
    lambda inner: st.builds(
        Script, turns=st.lists(turns, min_size=1, max_size=2), branches=st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)
groups = st.builds(group, st.lists(scripts, min_size=1, max_size=4), seed=st.integers(0, 50))


def few_ids(made: EpisodeGroup, ids: int) -> EpisodeGroup:
    """The same with ids below `ids`, so that different spans begin alike by chance."""
    for span in made.tree.spans:
        span.tokens = span.tokens % ids
    return made


def pack(made: EpisodeGroup) -> tuple[TreeBatch, list[tuple[int, ...]]]:
    """The batch of all actions, and for each row the path that ends with its token."""
    parts, paths = [], list[tuple[int, ...]]()
    for episode in made.episodes:
        for span in episode.actions:
            path, own = made.tree.tokens(span), len(made.tree[span].tokens)
            parts.append((made.tree, span, np.arange(len(paths), len(paths) + own)))
            paths += [tuple(path[: len(path) - own + i + 1].tolist()) for i in range(own)]
    return build(parts), paths


@settings(max_examples=40)
@given(made=groups, ids=st.sampled_from([2, 100]))
def test_every_beginning_is_one_token_that_sees_exactly_its_own_past(made: EpisodeGroup, ids: int) -> None:
    batch, paths = pack(few_ids(made, ids))
    seen = [tuple(batch.token[row].tolist()) for row in batch.visible()]
    prefixes = {path[: n + 1] for path in paths for n in range(len(path) - 1)}  # the last token predicts nothing
    assert Counter(seen) == Counter(prefixes)
    assert batch.position.tolist() == [len(path) - 1 for path in seen]


@settings(max_examples=40)
@given(made=groups, ids=st.sampled_from([2, 100]))
def test_every_trained_token_is_an_entry_after_its_own_past(made: EpisodeGroup, ids: int) -> None:
    """Rows that share a place are all there: merging loses no loss."""
    batch, paths = pack(few_ids(made, ids))
    visible = batch.visible()
    entries = {
        int(row): (*batch.token[visible[query]].tolist(), int(target))
        for row, query, target in zip(batch.row, batch.query, batch.target, strict=True)
    }
    assert entries == dict(enumerate(paths))


def test_tokens_that_are_not_trained_are_context_only() -> None:
    tree = TrajectoryTree()
    root = tree.add(Span(ROOT, np.array([5, 6]), Kind.OBSERVATION))
    action = tree.add(Span(root, np.array([7, 8, 9]), Kind.ACTION))
    batch = build([(tree, action, np.array([-1, 40, -1]))])
    assert (batch.row.tolist(), batch.target.tolist()) == ([40], [8])
    assert batch.token[batch.query].tolist() == [7]
    assert batch.token.tolist() == [5, 6, 7], "what follows the last trained token is not computed"


def test_a_turn_of_a_rewritten_context_sees_the_question_and_the_turn_before() -> None:
    """MEM1, arXiv 2506.15841: question, then thought, request and information of each turn; the context keeps the last turn alone.
    What its released training mask hides beyond that, the sampler did see."""
    names = ["q", "t0", "r0", "i0", "t1", "r1", "i1", "t2", "r2"]
    ids = {name: np.array([number]) for number, name in enumerate(names)}
    tree, parts = TrajectoryTree(), []

    def say(parent: int, *said: str) -> int:
        span = tree.add(Span(parent, np.concatenate([ids[name] for name in said]), Kind.ACTION))
        parts.append((tree, span, np.array([names.index(name) for name in said])))
        return span

    def show(parent: int, *shown: str) -> int:
        return tree.add(Span(parent, np.concatenate([ids[name] for name in shown]), Kind.OBSERVATION))

    say(show(say(show(ROOT, "q"), "t0", "r0"), "i0"), "t1", "r1")
    say(show(ROOT, "q", "t1", "r1", "i1"), "t2", "r2")
    batch = build(parts)
    seen = [[names[token] for token in batch.token[row]] for row in batch.visible()]
    for expected in ("q t0 r0 i0", "q t0 r0 i0 t1", "q t1 r1 i1", "q t1 r1 i1 t2"):
        assert seen.count(expected.split()) == 1, expected
    assert len(seen) == 5 + 4, "the question is shared"


def test_two_groups_with_one_system_prompt_share_it() -> None:
    tree, other = TrajectoryTree(), TrajectoryTree()
    parts = []
    for number, each in enumerate((tree, other)):
        root = each.add(Span(ROOT, np.array([1, 2, 3, 10 + number]), Kind.OBSERVATION))
        action = each.add(Span(root, np.array([7]), Kind.ACTION))
        parts.append((each, action, np.array([number])))
    assert len(build(parts)) == 3 + 2


def random_ends(parents: list[int]) -> NDArray[np.int64]:
    """Subtree ends of the tree in which node i + 1 hangs under one of the nodes before it, in depth-first order."""
    trie = Trie()
    for number, parent in enumerate(parents):
        trie.insert([number], (parent % (number + 1)) - 1)
    return trie.depth_first()[2]


def dense(end: NDArray[np.int64]) -> NDArray[np.bool_]:
    q, k = np.arange(len(end))[:, None], np.arange(len(end))[None]
    return np.asarray((k <= q) & (q < end[None]))


chains = st.lists(st.integers(0, 10**6), max_size=60)
long_chains = st.lists(st.sampled_from([10**6 * 7 - 1, 0, 1, 2, 3]), max_size=60)


@settings(max_examples=150)
@given(parents=chains | long_chains, size=st.integers(1, 12))
def test_blocks_cover_every_visible_pair_once_and_no_other(parents: list[int], size: int) -> None:
    end = random_ends(parents)
    cut = blocks(end, size)
    assert [i for block in cut for i in range(block.start, block.stop)] == list(range(len(end)))
    covered = np.zeros((len(end), len(end)), int)
    for block in cut:
        assert block.stop - block.start <= size
        for a, b in block.path:
            covered[block.start : block.stop, a:b] += 1  # the path outside is attended without a mask
        inside = slice(block.start, block.stop)
        covered[inside, inside] += dense(end)[inside, inside]
    np.testing.assert_array_equal(covered, dense(end))


def test_a_wide_fan_costs_its_path_and_not_its_square() -> None:
    """100 answers of 10 tokens after a prompt of 50: keys attended stay near path plus block."""
    trie = Trie()
    stem = trie.insert(range(50), -1)
    for answer in range(100):
        trie.insert([1000 + 10 * answer + i for i in range(10)], stem)
    cut = blocks(trie.depth_first()[2], 40)
    pairs = sum((b.stop - b.start) * (b.stop - b.start + sum(j - i for i, j in b.path)) for b in cut)
    assert pairs < 1050 * (50 + 40)
