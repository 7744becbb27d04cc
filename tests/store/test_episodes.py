"""A stored episode is the whole trajectory: rows rebuild the tree, path by path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import (
    ROOT,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    Image,
    Kind,
    Message,
    Span,
    Standing,
    StopReason,
    Task,
    Text,
    ToolCall,
    TrajectoryTree,
    assistant,
    user,
)
from sojourn.credit import columns
from sojourn.store import query, read_episodes, rebuild, to_row, write_episodes
from sojourn.store.episodes import EPISODE, FAILURE, SCHEMA, SPAN, SPAN_TYPE, TASK, token_ends


def decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


FLOATS = st.floats(allow_nan=False)
TERMS = st.dictionaries(st.text(max_size=5), st.floats(-1e9, 1e9), max_size=2)  # finite: the door lets nothing else in
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.none() | st.integers(0, 2) | st.sampled_from("ab") | st.tuples(st.integers(0, 1), st.frozensets(st.text(max_size=2)))
PARTS = st.builds(Text, st.text()) | st.builds(Image, st.binary(max_size=8), st.sampled_from(["image/png", "image/jpeg"]))
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(PARTS, max_size=2).map(tuple),
    st.lists(st.builds(ToolCall, st.text(max_size=5), st.dictionaries(st.text(max_size=5), DATA, max_size=2)), max_size=2).map(
        tuple
    ),
    st.none() | st.text(max_size=5),
)
FAILURES = {"kind": st.sampled_from(FailureKind), "where": st.text(max_size=5), "message": st.text(max_size=5)} | {
    "standing": st.none() | st.sampled_from(Standing)
}
TASKS = {"id": st.text(max_size=5), "data": st.dictionaries(st.text(max_size=5), DATA, max_size=3), "level": st.text(max_size=5)}
SPANS: dict[str, Any] = {
    "tokens": st.lists(st.integers(32, 126), min_size=1, max_size=4).map(np.array),
    "kind": st.sampled_from(Kind),
    "policy": st.none() | st.sampled_from(["actor", "partner"]),
    "version": st.integers(0, 9),
    "turn": st.integers(0, 9),
    "agent": st.sampled_from("ab"),
    "message": st.none() | MESSAGES,
    "anchor": KEYS,
    "temperature": FLOATS,
    "allowed": st.none() | st.just(((1, 2), (3,))),
    "value": st.none() | FLOATS,
    "truncated": st.booleans(),
    "stop": st.sampled_from([None, "stop", "length", "context"]),
}
EPISODES = {
    "id": st.text(max_size=5),
    "reward": TERMS,
    "paid": st.dictionaries(st.sampled_from("ab"), TERMS, max_size=2),
    "stop": st.none() | st.sampled_from(StopReason),
    "failures": st.lists(st.builds(Failure, **FAILURES), max_size=2),
    "info": st.dictionaries(st.text(max_size=5), DATA, max_size=3),
    "seconds": FLOATS,
    "attempts": st.integers(1, 3),
}
JOINED: dict[type, set[str]] = {
    Span: {"parent", "source", "logprobs", "reward"},
    Episode: {"task", "tree", "actions", "leaves"},
    Task: set(),
    Failure: set(),
}
"""Fields that the groups below make to fit each other."""


@st.composite
def groups(draw: st.DrawFn) -> EpisodeGroup:
    """A tree with forks, several contexts, several policies; episodes that own some of its leaves.  Every field has any value."""
    tree = TrajectoryTree()
    for index in range(draw(st.integers(1, 10))):
        parent = draw(st.integers(ROOT, index - 1))
        span = Span(parent, **draw(st.fixed_dictionaries(SPANS)))
        span.kind = Kind.OBSERVATION if parent == ROOT else span.kind
        if parent == ROOT and index:
            span.source = draw(st.none() | st.integers(0, index - 1))
        if span.kind == Kind.ACTION:
            span.reward = draw(TERMS)
            span.logprobs = draw(st.none() | st.just(np.linspace(-1, 0, len(span.tokens)).astype(np.float32)))
        tree.add(span)
    group = EpisodeGroup(draw(st.text()), Task(**draw(st.fixed_dictionaries(TASKS))), tree)
    leaves = list(tree.leaves())
    for _ in range(draw(st.integers(1, 3))):
        mine = draw(st.lists(st.sampled_from(leaves), min_size=1, unique=True))
        actions = sorted({action for leaf in mine for action in tree.actions(leaf)})
        rest = draw(st.fixed_dictionaries(EPISODES))
        group.episodes.append(Episode(task=group.task, tree=tree, actions=actions, leaves=mine, **rest))
    return group


def shape(tree: TrajectoryTree, leaf: int | None) -> list[dict[str, object]]:
    """What a path is: everything about each of its spans except their ids; for a root that rewrites, the source's path too."""
    if leaf is None:
        return []
    spans = [tree[i] for i in tree.path(leaf)]
    found = [{f.name: getattr(span, f.name) for f in fields(Span)} for span in spans]
    arrays = [{name: None if span[name] is None else span[name].tolist() for name in ("tokens", "logprobs")} for span in found]
    return [
        span | lists | {"parent": None, "source": shape(tree, span["source"])} for span, lists in zip(found, arrays, strict=True)
    ]


def outside(episode: Episode) -> dict[str, object]:
    """Everything about an episode except its spans."""
    return {f.name: getattr(episode, f.name) for f in fields(Episode) if f.name not in ("tree", "actions", "leaves")}


def stored(group: EpisodeGroup, run: Path) -> EpisodeGroup:
    """Through Parquet and back."""
    write_episodes(
        run / "episodes" / "train-000003.parquet", [to_row(each, group.key, decode, step=3) for each in group.episodes]
    )
    return rebuild(read_episodes(run))


def replayed(group: EpisodeGroup, run: Path) -> EpisodeGroup:
    """Through the JSON of a checkpoint and back."""
    return rebuild(json.loads(json.dumps([to_row(each, group.key, decode) for each in group.episodes])))


@pytest.mark.parametrize(("kept", "columns_", "drawn"), [
    (Span, SPAN, SPANS), (Episode, EPISODE, EPISODES), (Task, TASK, TASKS), (Failure, FAILURE, FAILURES),
])  # fmt: skip
def test_every_field_has_a_column_and_is_drawn_below(kept: type, columns_: Any, drawn: dict[str, Any]) -> None:
    """Whoever adds a field finds here where it has to be named: `sojourn.store.episodes`, and the strategies of this file."""
    names = {field.name for field in fields(kept)}
    assert {column.field or column.name for column in columns_} == names - {"task", "tree"}
    assert set(drawn) == names - JOINED[kept]


@pytest.mark.parametrize("way", [stored, replayed])
@settings(max_examples=30, deadline=None)
@given(group=groups())
def test_every_field_comes_back(tmp_path_factory: pytest.TempPathFactory, way: Any, group: EpisodeGroup) -> None:
    again = way(group, tmp_path_factory.mktemp("run"))
    assert (again.key, again.task) == (group.key, group.task)
    for before, after in zip(group.episodes, again.episodes, strict=True):
        assert [shape(again.tree, leaf) for leaf in after.leaves] == [shape(group.tree, leaf) for leaf in before.leaves]
        assert [shape(again.tree, i) for i in after.actions] == [shape(group.tree, i) for i in before.actions]
        assert outside(after) == outside(before)
        assert (after.total, after.rewards, after.valid, after.success) == (
            before.total, before.rewards, before.valid, before.success,
        )  # fmt: skip


@pytest.mark.parametrize("way", [stored, replayed])
@settings(max_examples=20, deadline=None)
@given(group=groups())
def test_credit_reads_the_same_columns(tmp_path_factory: pytest.TempPathFactory, way: Any, group: EpisodeGroup) -> None:
    before, after = columns([group]), columns([way(group, tmp_path_factory.mktemp("run"))])
    for field in fields(before):
        if field.name != "span_S":  # ids have no gaps afterwards
            np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name), field.name)


def test_what_the_world_said_last_is_kept_for_its_reward(tmp_path: Path) -> None:
    """Nobody acted on it; a second episode's own last word is not this one's."""
    tree = TrajectoryTree()
    prompt = tree.add(Span(ROOT, np.array([1]), Kind.OBSERVATION))
    group = EpisodeGroup("g", Task("t"), tree)
    for number in range(2):
        action = tree.add(Span(prompt, np.array([2]), Kind.ACTION))
        tree.add(Span(action, np.array([3]), Kind.OBSERVATION, reward={"late": 1.0 + number}))
        group.episodes.append(Episode(str(number), group.task, tree, [action], [action]))
    assert [len(to_row(each, "g", decode)["spans"]) for each in group.episodes] == [3, 3]
    np.testing.assert_array_equal(columns([group]).reward_S, [1.0, 2.0])
    np.testing.assert_array_equal(columns([stored(group, tmp_path)]).reward_S, [1.0, 2.0])


@dataclass(frozen=True)
class Board:
    """A state whose text says less than it is."""

    side: str
    hidden: int

    def __repr__(self) -> str:
        return self.side


def test_state_keys_of_any_kind_stay_as_equal_as_they_were(tmp_path: Path) -> None:
    keys = [Board("x", 1), Board("x", 2), Board("x", 1), Board("o", 1), "x", (Board("x", 2),), (Board("x", 2),), 1, True, None]
    tree = TrajectoryTree()
    parent = tree.add(Span(ROOT, np.array([1]), Kind.OBSERVATION))
    actions = [tree.add(Span(parent, np.array([2]), Kind.ACTION, anchor=key)) for key in keys]
    group = EpisodeGroup("g", Task("t"), tree, [])
    group.episodes = [Episode("e", group.task, tree, actions, actions)]
    expected = [0, 1, 0, 2, 3, 4, 4, 5, 5, -1]
    once = stored(group, tmp_path)
    for each in (group, once, stored(once, tmp_path), replayed(once, tmp_path)):
        assert columns([each]).anchor_S.tolist() == expected


def test_older_files_are_read_beside_newer_ones(tmp_path: Path) -> None:
    """A file as it was written before spans had messages: fields without a column have their defaults, state keys were a `repr`."""
    tree = TrajectoryTree()
    prompt = tree.add(Span(ROOT, np.array([65]), Kind.OBSERVATION))
    actions = [tree.add(Span(prompt, np.array([66]), Kind.ACTION, anchor=key)) for key in ("(1, 'a')", "'b'", "3", "(1, 'a')")]
    episode = Episode("e", Task("t", {"n": 3}), tree, actions, actions)
    row = to_row(episode, "old", decode, step=1)
    for span, original in zip(row["spans"], tree.spans, strict=True):
        span["anchor"] = original.anchor
    span_type = pa.struct([field for field in SPAN_TYPE if field.name not in ("message", "value", "truncated", "temperature")])
    span_type = pa.struct([*span_type, pa.field("temperature", pa.float32())])
    schema = SCHEMA.set(SCHEMA.get_field_index("spans"), pa.field("spans", pa.list_(span_type)))
    pairs = [{**span, "reward": []} for span in row["spans"]]
    (tmp_path / "episodes").mkdir()
    old = pa.Table.from_pylist([row | {"rewards": [], "final": [], "spans": pairs}], schema=schema)
    pq.write_table(old, tmp_path / "episodes" / "train-000001.parquet")
    write_episodes(tmp_path / "episodes" / "train-000002.parquet", [to_row(episode, "new", decode, step=2)])
    again = rebuild(read_episodes(tmp_path, "\"group\" = 'old'"))
    assert columns([again]).anchor_S.tolist() == [0, 1, 2, 0]
    assert [(span.message, span.value, span.truncated) for span in again.tree.spans] == [(None, None, False)] * 5
    assert (again.task, again.episodes[0].reward) == (Task("t", {"n": 3}), {})
    assert rebuild(read_episodes(tmp_path, "step = 2")).key == "new"


def test_text_that_no_file_can_hold_is_stored_with_a_mark(tmp_path: Path) -> None:
    """Half of a surrogate pair, wherever a text can stand: nothing is lost but that half."""
    bad, mark = "a\ud83d", "a\ufffd"
    tree = TrajectoryTree()
    call = ToolCall(bad, {bad: [bad]})
    span = Span(
        ROOT, np.array([1]), Kind.ACTION, None, bad, agent=bad, reward={bad: 1.0}, message=assistant(bad, [call]), anchor=bad
    )
    tree.add(span)
    failure = Failure(FailureKind.MODEL, bad, bad)
    episode = Episode(bad, Task(bad, {bad: bad}, bad), tree, [0], [0], {bad: 1.0}, None, [failure], {bad: {bad}})
    write_episodes(tmp_path / "episodes" / "train-000001.parquet", [to_row(episode, bad, lambda tokens: bad, phase=bad)])
    again = rebuild(read_episodes(tmp_path))
    (after,) = again.episodes
    assert (again.key, again.task, after.id, after.reward) == (mark, Task(mark, {mark: mark}, mark), mark, {mark: 1.0})
    assert (after.failures, after.info) == ([Failure(FailureKind.MODEL, mark, mark)], {mark: {mark}})
    kept = again.tree[0]
    assert (kept.policy, kept.agent, kept.anchor, kept.reward) == (mark, mark, mark, {mark: 1.0})
    assert kept.message == assistant(mark, [ToolCall(mark, {mark: [mark]})])


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
    tree = TrajectoryTree()
    leaf = tree.add(Span(ROOT, np.array([1]), Kind.ACTION))
    rows = [to_row(Episode("e", Task("t"), tree, [leaf], [leaf]), key, decode) for key in ("one", "two")]
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
