"""The episode store: one row of Parquet for each episode, the whole trajectory in it, queried with SQL.

The one idea: a row holds every span that its episode touched, under the ids of the group's tree.  So an episode can be read alone,
and the rows of a group rebuild the group's tree, shared spans once.

    select level, avg(success::int) from episodes where phase = 'train' group by level
    select id, span.text from (select id, unnest(spans) as span from episodes) where span.kind = 'action'
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sojourn.core import ROOT, Episode, EpisodeGroup, Failure, FailureKind, Floats, Kind, Span, StopReason, Task, TrajectoryTree
from sojourn.store.files import plain, write_atomic

Row = dict[str, Any]
Decode = Callable[[Sequence[int]], str]

LINES = "read_json_auto({}, format='newline_delimited', union_by_name=true, ignore_errors=true)"
"""A last line that a kill tore is left out."""

_TERMS = pa.map_(pa.string(), pa.float64())

SPAN = pa.struct(
    {
        "id": pa.int32(),  # in the group's tree
        "parent": pa.int32(),  # ROOT (-1) for the first span of a context
        "source": pa.int32(),  # of a rewritten context: the span it came from
        "kind": pa.string(),  # observation, action, forced
        "role": pa.string(),  # of the message that the span ends with; null for the template's glue
        "text": pa.string(),
        "tokens": pa.list_(pa.int32()),
        "ends": pa.list_(pa.int32()),  # actions: where in `text` each token ends
        "logprobs": pa.list_(pa.float32()),  # actions: of the distribution sampled from
        "advantages": pa.list_(pa.float32()),  # trained actions, one for each token
        "reward": _TERMS,
        "turn": pa.int32(),
        "agent": pa.string(),
        "policy": pa.string(),
        "version": pa.int32(),
        "temperature": pa.float32(),
        "anchor": pa.string(),  # repr of the state key
        "allowed": pa.list_(pa.list_(pa.int32())),
    }
)
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "group": pa.string(),
        "task": pa.string(),
        "level": pa.string(),
        "phase": pa.string(),
        "step": pa.int32(),
        "success": pa.bool_(),
        "total": pa.float64(),  # the undiscounted return
        "rewards": _TERMS,  # all terms, summed by name
        "final": _TERMS,  # the terms paid at the end
        "stop": pa.string(),
        "valid": pa.bool_(),  # false when the infrastructure failed
        "failures": pa.list_(pa.struct({"kind": pa.string(), "where": pa.string(), "message": pa.string()})),
        "contexts": pa.int32(),
        "turns": pa.int32(),
        "seconds": pa.float64(),
        "data": pa.string(),  # JSON, the task's
        "info": pa.string(),  # JSON, the environment's
        "actions": pa.list_(pa.int32()),  # span ids, in the order of sampling
        "leaves": pa.list_(pa.int32()),  # span ids, one for each context
        "spans": pa.list_(SPAN),
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
) -> Row:
    """One episode as a row of the store.

    group: the group's key.  decode: token ids to text.  advantages: span id to one advantage for each of its tokens.
    """
    ids = _touched(episode)
    spans = [_span_row(i, episode.tree[i], decode, (advantages or {}).get(i)) for i in ids]
    return {
        "id": episode.id,
        "group": group,
        "task": episode.task.id,
        "level": episode.task.level,
        "phase": phase,
        "step": step,
        "success": episode.success,
        "total": episode.total,
        "rewards": dict(episode.rewards),
        "final": dict(episode.reward),
        "stop": episode.stop.value if episode.stop else None,
        "valid": episode.valid,
        "failures": [{"kind": f.kind.value, "where": f.where, "message": f.message} for f in episode.failures],
        "contexts": sum(span["parent"] == ROOT for span in spans),
        "turns": len(episode.actions),
        "seconds": episode.seconds,
        "data": json.dumps(plain(episode.task.data)),
        "info": json.dumps(plain(episode.info)),
        "actions": list(episode.actions),
        "leaves": list(episode.leaves),
        "spans": spans,
    }


def write_episodes(path: Path, rows: Sequence[Row]) -> None:
    """Write rows made by `to_row` as one Parquet file, atomically."""
    table = pa.Table.from_pylist([_pairs(row) for row in rows], schema=SCHEMA)
    write_atomic(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def query(run: str | Path, sql: str) -> list[Row]:
    """The rows that `sql` gives over a run folder's tables: `episodes`, `metrics`, `evals`.

    Raises `ValueError` if the run has no episodes yet.
    """
    with duckdb.connect() as database:
        for name, reader, pattern in (
            ("episodes", "read_parquet({}, union_by_name=true, file_row_number=true)", "episodes/*.parquet"),
            ("metrics", LINES, "metrics.jsonl"),
            ("evals", LINES, "evals.jsonl"),
        ):
            files = sorted(map(str, Path(run).glob(pattern)))
            if files:
                quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
                database.execute(f"create view {name} as select * from {reader.format(f'[{quoted}]')}")
            elif name == "episodes":
                raise ValueError(f"run folder {run}: found no episodes (expected {Path(run) / pattern}; is it a run folder?)")
        table: pa.Table = database.sql(sql).to_arrow_table()
        return list(table.to_pylist(maps_as_pydicts="strict"))


def read_episodes(run: str | Path, where: str = "true") -> list[Row]:
    """The episodes of a run for which the SQL condition holds, by step and phase, in the order they were written."""
    return query(run, f"select * exclude file_row_number from episodes where {where} order by step, phase, file_row_number")


def rebuild(rows: Iterable[Row]) -> EpisodeGroup:
    """The group that rows came from: its tree, each shared span once, and its episodes.

    Spans get new ids, without gaps.  A span's message is not rebuilt (its text is in the row), and its anchor is the key's `repr`.
    Raises `ValueError` if the rows are of several groups or there are none.
    """
    rows = list(rows)
    keys = sorted({(row["group"], row["phase"], row["step"]) for row in rows})
    if len(keys) != 1:
        raise ValueError(f"rebuild: found rows of {len(keys)} groups {keys[:3]}, expected one (select by group, phase and step)")
    stored = {span["id"]: span for row in rows for span in row["spans"]}
    new = {old: index for index, old in enumerate(sorted(stored))} | {ROOT: ROOT}
    tree = TrajectoryTree()
    for old in sorted(stored):
        tree.add(_span(stored[old], new))
    task = Task(rows[0]["task"], json.loads(rows[0]["data"]), rows[0]["level"])
    return EpisodeGroup(keys[0][0], task, tree, [_episode(row, task, tree, new) for row in rows])


def _touched(episode: Episode) -> list[int]:
    """Ids of all spans on the paths of the episode's actions and contexts, and of the contexts these were rewritten from."""
    tree, found = episode.tree, set[int]()
    pending = [*episode.actions, *episode.leaves]
    while pending:
        span = pending.pop()
        if span != ROOT and span not in found:
            found.add(span)
            pending.append(tree[span].parent)
            source = tree[span].source
            pending += [] if source is None else [source]
    return sorted(found)


def _span_row(index: int, span: Span, decode: Decode, advantages: Floats | None) -> Row:
    tokens = span.tokens.tolist()
    text = decode(tokens)
    return {
        "id": index,
        "parent": span.parent,
        "source": span.source,
        "kind": span.kind.name.lower(),
        "role": span.message.role if span.message else None,
        "text": text,
        "tokens": tokens,
        "ends": token_ends(tokens, text, decode) if span.kind == Kind.ACTION else None,
        "logprobs": None if span.logprobs is None else span.logprobs.tolist(),
        "advantages": None if advantages is None else np.broadcast_to(advantages, len(tokens)).tolist(),
        "reward": dict(span.reward),
        "turn": span.turn,
        "agent": span.agent,
        "policy": span.policy,
        "version": span.version,
        "temperature": span.temperature,
        "anchor": None if span.anchor is None else repr(span.anchor),
        "allowed": None if span.allowed is None else [list(option) for option in span.allowed],
    }


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


def _span(row: Row, new: Mapping[int, int]) -> Span:
    return Span(
        parent=new[row["parent"]],
        tokens=np.asarray(row["tokens"], np.int64),
        kind=Kind[row["kind"].upper()],
        logprobs=None if row["logprobs"] is None else np.asarray(row["logprobs"], np.float32),
        policy=row["policy"],
        version=row["version"],
        turn=row["turn"],
        agent=row["agent"],
        reward=dict(row["reward"]),
        source=None if row["source"] is None else new[row["source"]],
        anchor=row["anchor"],
        temperature=row["temperature"],
        allowed=None if row["allowed"] is None else tuple(tuple(option) for option in row["allowed"]),
    )


def _episode(row: Row, task: Task, tree: TrajectoryTree, new: Mapping[int, int]) -> Episode:
    return Episode(
        id=row["id"],
        task=task,
        tree=tree,
        actions=[new[i] for i in row["actions"]],
        leaves=[new[i] for i in row["leaves"]],
        reward=dict(row["final"]),
        stop=StopReason(row["stop"]) if row["stop"] else None,
        failures=[Failure(FailureKind(f["kind"]), f["where"], f["message"]) for f in row["failures"]],
        info=json.loads(row["info"]),
        seconds=row["seconds"],
    )


def _pairs(row: Row) -> Row:
    """Maps as lists of pairs, as Arrow wants them."""
    spans = [{**span, "reward": list(span["reward"].items())} for span in row["spans"]]
    return {**row, "rewards": list(row["rewards"].items()), "final": list(row["final"].items()), "spans": spans}
