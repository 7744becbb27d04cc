"""The episode store: one row for each episode, the whole trajectory in it.

The one idea: a row holds every span that its episode touched, under the ids of the group's tree.  So an episode can be read alone,
and the rows of a group rebuild the group's tree, shared spans once.  A row is fit for Parquet and for JSON alike.

`SPAN`, `FAILURE`, `TASK` and `EPISODE` list the fields of the dataclasses, each with its column: a field that is not listed is lost, and
a test says so.  A column that an older file does not have gives the field its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from sojourn.core import (
    ROOT,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    Floats,
    Kind,
    Span,
    Standing,
    StopReason,
    Task,
    TrajectoryTree,
)
from sojourn.core.text import well_formed
from sojourn.core.values import from_json, is_exact_key, to_json

Row = dict[str, Any]
Decode = Callable[[Sequence[int]], str]


def _same(value: Any) -> Any:
    return value


def _value(member: Enum) -> Any:
    return member.value


@dataclass(frozen=True, slots=True)
class Column:
    """How a field is kept: under which name and type, how it is written and read again.  `field`, where it has another name."""

    name: str
    type: pa.DataType
    write: Callable[[Any], Any] = _same
    read: Callable[[Any], Any] = _same
    field: str = ""


INT, REAL, TEXT, FLAG = pa.int32(), pa.float64(), pa.string(), pa.bool_()
IDS, TERMS = pa.list_(INT), pa.map_(TEXT, REAL)

SPAN = (
    Column("parent", INT),  # an id in the group's tree; ROOT (-1) for the first span of a context
    Column("tokens", IDS, np.ndarray.tolist, lambda ids: np.asarray(ids, np.int64)),
    Column("kind", TEXT, lambda kind: kind.name.lower(), lambda name: Kind[name.upper()]),  # observation, action, forced
    Column("logprobs", pa.list_(pa.float32()), np.ndarray.tolist, lambda logp: np.asarray(logp, np.float32)),
    Column("policy", TEXT),
    Column("version", INT),
    Column("turn", INT),
    Column("agent", TEXT),
    Column("reward", TERMS, dict, dict),
    Column("message", TEXT, to_json, from_json),  # JSON: the message that the span ends with; null for the template's glue
    Column("source", INT),  # of a rewritten context: the id of the span it came from
    Column("anchor", TEXT, to_json, from_json),  # JSON: the state key
    Column("temperature", REAL),
    Column("allowed", pa.list_(IDS), lambda texts: [list(ids) for ids in texts], lambda texts: tuple(map(tuple, texts))),
    Column("value", REAL),
    Column("truncated", FLAG),
    Column("stop", TEXT),  # why the action ended
)
FAILURE = (
    Column("kind", TEXT, _value, FailureKind),
    Column("where", TEXT),
    Column("message", TEXT),
    Column("standing", TEXT, lambda standing: standing.name.lower(), lambda name: Standing[name.upper()]),
)
TASK = (
    Column("task", TEXT, field="id"),
    Column("level", TEXT),
    Column("data", TEXT, to_json, from_json),
)
EPISODE = (
    Column("id", TEXT),
    Column("actions", IDS, list, list),  # span ids, in the order of sampling
    Column("leaves", IDS, list, list),  # span ids, one for each context
    Column("final", TERMS, dict, dict, field="reward"),  # the terms paid at the end
    Column("paid", TEXT, to_json, from_json),  # JSON: the terms paid to single agents at the end, by agent
    Column("stop", TEXT, _value, StopReason),
    Column(
        "failures",
        pa.list_(pa.struct({column.name: column.type for column in FAILURE})),
        lambda failures: [_written(FAILURE, failure) for failure in failures],
        lambda rows: [Failure(**_read(FAILURE, row)) for row in rows],
    ),
    Column("info", TEXT, to_json, from_json),
    Column("seconds", REAL),
    Column("attempts", INT),
)

SPAN_TYPE = pa.struct(
    {
        "id": INT,  # in the group's tree
        **{column.name: column.type for column in SPAN},
        "role": TEXT,  # of the message
        "text": TEXT,
        "ends": IDS,  # actions: where in `text` each token ends
        "advantages": pa.list_(pa.float32()),  # trained actions, one for each token
    }
)
SCHEMA = pa.schema(
    {
        **{column.name: column.type for column in EPISODE},
        **{column.name: column.type for column in TASK},
        "group": TEXT,
        "phase": TEXT,
        "step": INT,
        "success": FLAG,
        "total": REAL,  # the undiscounted return
        "rewards": TERMS,  # all terms, summed by name
        "valid": FLAG,  # false when something broke that is not the policy's doing
        "contexts": INT,
        "turns": INT,
        "spans": pa.list_(SPAN_TYPE),
    }
)


def to_row(
    episode: Episode,
    group: str,
    decode: Decode,
    advantages: Mapping[int, Floats] | None = None,
    *,
    phase: str = "train",
    step: int = 0,
    by_span: Mapping[int, Decode] | None = None,
) -> Row:
    """One episode as a row of the store.

    group: the group's key.  decode: token ids to text; by_span: of spans that are another tokenizer's, theirs.
    advantages: span id to one advantage for each of its tokens.
    """
    own, given = by_span or {}, advantages or {}
    spans = [_span_row(episode.tree, i, own.get(i, decode), given.get(i)) for i in _touched(episode)]
    return {
        **_written(EPISODE, episode),
        **_written(TASK, episode.task),
        "group": group,
        "phase": phase,
        "step": step,
        "success": episode.success,
        "total": episode.total,
        "rewards": dict(episode.rewards),
        "valid": episode.valid,
        "contexts": sum(span["parent"] == ROOT for span in spans),
        "turns": len(episode.actions),
        "spans": spans,
    }


def rebuild(rows: Iterable[Row]) -> EpisodeGroup:
    """The group that rows came from: its tree, each shared span once, and its episodes.

    Spans get new ids, without gaps.  State keys are as equal as they were; one that is no plain value (a text, a number, a tuple of
    them) comes back as a text.  Raises `ValueError` if the rows are of several groups or there are none.
    """
    rows = list(rows)
    keys = sorted({(row["group"], row["phase"], row["step"]) for row in rows})
    if len(keys) != 1:
        raise ValueError(f"rebuild: found rows of {len(keys)} groups {keys[:3]}, expected one (select by group, phase and step)")
    stored = {span["id"]: span for row in rows for span in row["spans"]}
    new = {old: index for index, old in enumerate(sorted(stored))} | {ROOT: ROOT}
    tree = TrajectoryTree()
    for old in sorted(stored):
        span = Span(**_read(SPAN, stored[old]))
        span.parent = new[span.parent]
        span.source = None if span.source is None else new[span.source]
        tree.add(span)
    task = Task(**_read(TASK, rows[0]))
    return EpisodeGroup(keys[0][0], task, tree, [_episode(row, task, tree, new) for row in rows])


def _written(columns: Sequence[Column], thing: object) -> Row:
    fields = ((column, getattr(thing, column.field or column.name)) for column in columns)
    return {column.name: None if value is None else column.write(value) for column, value in fields}


def _read(columns: Sequence[Column], row: Row) -> dict[str, Any]:
    """Fields by name; one without a value keeps its default."""
    values = ((column, row.get(column.name)) for column in columns)
    return {column.field or column.name: column.read(value) for column, value in values if value is not None}


def _episode(row: Row, task: Task, tree: TrajectoryTree, new: Mapping[int, int]) -> Episode:
    episode = Episode(task=task, tree=tree, **_read(EPISODE, row))
    episode.actions = [new[span] for span in episode.actions]
    episode.leaves = [new[span] for span in episode.leaves]
    return episode


def _touched(episode: Episode) -> list[int]:
    """Ids of all spans on the paths of the episode's actions and contexts, of the contexts these were rewritten from, and of what came
    after an action without another one: the world's last word may carry a reward."""
    tree, found = episode.tree, set[int]()
    pending = [*episode.actions, *episode.leaves]
    while pending:
        span = pending.pop()
        if span != ROOT and span not in found:
            found.add(span)
            pending.append(tree[span].parent)
            source = tree[span].source
            pending += [] if source is None else [source]
    last = set(episode.actions)
    for index, node in enumerate(tree.spans):  # parents come before their children
        if node.kind != Kind.ACTION and index not in found and (node.parent in last or node.source in last):
            last.add(index)
    return sorted(found | last)


def _span_row(tree: TrajectoryTree, index: int, decode: Decode, advantages: Floats | None) -> Row:
    """A span with its text, and where in that each token of an action ends."""
    span = tree[index]
    tokens = span.tokens.tolist()
    text = well_formed(decode(tokens))
    return {
        "id": index,
        **_written(SPAN, span),
        "anchor": None if span.anchor is None else to_json(_key(tree, index)),
        "role": span.message.role if span.message else None,
        "text": text,
        "ends": token_ends(tokens, text, decode) if span.kind == Kind.ACTION else None,
        "advantages": None if advantages is None else np.broadcast_to(advantages, len(tokens)).tolist(),
    }


def _key(tree: TrajectoryTree, index: int) -> object:
    """The state key of a span; in place of one that JSON cannot tell from others, a text that names the first span with an equal key."""
    key = tree[index].anchor
    if is_exact_key(key):
        return key
    first = next(i for i, span in enumerate(tree.spans) if span.anchor == key)
    return f"{key!r} as of span {first}"


def token_ends(tokens: Sequence[int], text: str, decode: Decode, window: int = 8) -> list[int]:
    """Where in `text`, the decoding of `tokens`, each token ends.

    Tokens that decode to the text when decoded one by one need nothing else.  Otherwise (a letter spread over several tokens, a
    tokenizer that drops a leading space) a token's length is what it adds to the few tokens before it.
    """
    lengths = [len(decode([token])) for token in tokens]
    if sum(lengths) != len(text):
        befores = [list(tokens[max(0, i - window) : i]) for i in range(len(tokens))]
        lengths = [len(decode([*before, token])) - len(decode(before)) for before, token in zip(befores, tokens, strict=True)]
    ends: list[int] = np.clip(np.cumsum(lengths, dtype=np.int64), 0, len(text)).tolist()
    return [*ends[:-1], len(text)] if ends else []
