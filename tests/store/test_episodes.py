"""A stored episode is the whole trajectory: rows rebuild the tree, path by path."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import (
    ROOT,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    Kind,
    Span,
    StopReason,
    Task,
    TrajectoryTree,
    assistant,
    user,
)
from sojourn.store import query, read_episodes, rebuild, to_row, write_episodes
from sojourn.store.episodes import token_ends


def decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def random_group(seed: int) -> EpisodeGroup:
    """A tree with forks, several contexts, several policies; episodes that own some of its leaves."""
    rng = random.Random(seed)
    tree = TrajectoryTree()
    for index in range(rng.randint(1, 14)):
        parent = rng.randint(ROOT, index - 1)
        kind = rng.choice(list(Kind)) if parent != ROOT else Kind.OBSERVATION
        tokens = np.array([rng.randrange(32, 127) for _ in range(rng.randint(1, 5))])
        span = Span(parent, tokens, kind, turn=rng.randrange(4), agent=rng.choice("ab"), temperature=rng.choice([0.5, 1.0]))
        if parent == ROOT and index:
            span.source = rng.choice([None, rng.randrange(index)])
        if kind == Kind.ACTION:
            span.logprobs = -np.random.default_rng(seed + index).random(len(tokens), np.float32)
            span.policy, span.version, span.message = rng.choice(["actor", "partner"]), rng.randrange(3), assistant("said")
            span.reward = rng.choice([{}, {"format": 0.25, "correct": 1.0}])
            span.allowed = rng.choice([None, ((1, 2), (3,))])
        tree.add(span)
    group = EpisodeGroup(f"group {seed}'s", Task("t/1", {"a": 3, "q": "why?"}, "hard"), tree)
    leaves = list(tree.leaves())
    for number in range(rng.randint(1, 3)):
        mine = rng.sample(leaves, rng.randint(1, len(leaves)))
        actions = sorted({action for leaf in mine for action in tree.actions(leaf)})
        group.episodes.append(Episode(f"e{number}", group.task, tree, actions, mine, {"final": 0.5}, StopReason.TERMINATED))
    return group


def shape(tree: TrajectoryTree, leaf: int | None) -> list[tuple[object, ...]]:
    """What a path is: everything about each of its spans except their ids; for a root that rewrites, the source's path too."""
    if leaf is None:
        return []
    return [
        (
            span.kind,
            span.tokens.tolist(),
            None if span.logprobs is None else span.logprobs.tolist(),
            (span.policy, span.version, span.turn, span.agent, span.temperature, span.allowed),
            span.reward,
            shape(tree, span.source),
        )
        for span in (tree[i] for i in tree.path(leaf))
    ]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rows_rebuild_the_tree_path_by_path(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    group = random_group(seed)
    run = tmp_path_factory.mktemp("run")
    rows = [to_row(episode, group.key, decode, step=3) for episode in group.episodes]
    write_episodes(run / "episodes" / "train-000003.parquet", rows)
    again = rebuild(read_episodes(run))
    assert (again.key, again.task) == (group.key, group.task)
    for before, after in zip(group.episodes, again.episodes, strict=True):
        assert [shape(again.tree, leaf) for leaf in after.leaves] == [shape(group.tree, leaf) for leaf in before.leaves]
        assert [shape(again.tree, i) for i in after.actions] == [shape(group.tree, i) for i in before.actions]
        assert (after.id, after.total, after.rewards, after.stop) == (before.id, before.total, before.rewards, before.stop)


def test_shared_spans_are_rebuilt_once() -> None:
    tree = TrajectoryTree()
    prompt = tree.add(Span(ROOT, np.array([72, 105]), Kind.OBSERVATION, message=user("Hi")))
    group = EpisodeGroup("g", Task("t"), tree)
    for letter in (65, 66, 67):
        leaf = tree.add(Span(prompt, np.array([letter]), Kind.ACTION, logprobs=np.zeros(1, np.float32)))
        group.episodes.append(Episode(str(letter), group.task, tree, [leaf], [leaf]))
    again = rebuild([to_row(episode, "g", decode) for episode in group.episodes])
    assert [len(again.tree), *again.tree.children(ROOT)] == [4, 0]


def test_rows_of_two_groups_are_refused() -> None:
    rows = [to_row(group.episodes[0], group.key, decode) for group in (random_group(1), random_group(2))]
    with pytest.raises(ValueError, match="2 groups"):
        rebuild(rows)


def test_episodes_answer_sql(tmp_path: Path) -> None:
    tree = TrajectoryTree()
    prompt = tree.add(Span(ROOT, np.array(list(b"2+2?")), Kind.OBSERVATION, message=user("2+2?")))
    for step, (text, reward) in enumerate([(b"four", 1.0), (b"five", 0.0)], start=1):
        action = tree.add(Span(prompt, np.array(list(text)), Kind.ACTION, reward={"correct": reward}, policy="actor"))
        failure = Failure(FailureKind.BUDGET, "turns", "used up")
        episode = Episode(f"e{step}", Task("sum", level="easy"), tree, [action], [action], {}, None, [failure])
        advantages = {action: np.full(4, reward - 0.5, np.float32)}
        row = to_row(episode, "g", decode, advantages, phase="train", step=step)
        write_episodes(tmp_path / "episodes" / f"train-{step:06d}.parquet", [row])
    rows = query(
        tmp_path,
        """select step, rewards['correct'] as correct, span.text, span.advantages[1] as advantage, failures[1].kind as failure
        from (select *, unnest(spans) as span from episodes) where span.kind = 'action' order by step""",
    )
    assert rows == [
        {"step": 1, "correct": 1.0, "text": "four", "advantage": 0.5, "failure": "budget"},
        {"step": 2, "correct": 0.0, "text": "five", "advantage": -0.5, "failure": "budget"},
    ]


def test_metrics_and_evals_answer_sql_beside_a_torn_line(tmp_path: Path) -> None:
    write_episodes(tmp_path / "episodes" / "train-000001.parquet", [])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kl": 0.5}\n{"step": 2, "kl": 1.5}\n{"step": 3, "k')
    assert query(tmp_path, "select sum(kl) as kl from metrics where step is not null") == [{"kl": 2.0}]


def test_a_folder_without_episodes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no episodes"):
        read_episodes(tmp_path)


@given(text=st.text(min_size=1))
def test_token_ends_cut_the_text_into_the_tokens(text: str) -> None:
    """One byte a token, so letters are spread over tokens: joined, the pieces are the text, and a letter's bytes share it."""
    data = text.encode(errors="replace")
    ends = token_ends(list(data), decode(data), decode)
    assert len(ends) == len(data) and ends == sorted(ends) and ends[-1] == len(decode(data))
    starts = [i for i, byte in enumerate(data) if byte & 0xC0 != 0x80]
    assert [ends[i] for i in starts] == list(range(1, len(starts) + 1))


def test_token_ends_when_a_tokenizer_drops_the_first_space() -> None:
    def drop(tokens: Sequence[int]) -> str:
        return "".join([" one", " two", " three"][token] for token in tokens).removeprefix(" ")

    assert token_ends([0, 1, 2], "one two three", drop) == [3, 7, 13]
