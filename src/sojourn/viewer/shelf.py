"""The episodes of a run, found by what they are and by what was said in them.

The one idea: what a search needs of an episode is small (who, when, what it earned), so it is read once a file and kept; spans are read
for the episodes that are shown, and texts column by column, for the files that are left when all else has been asked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sojourn.store.episodes import SCHEMA

Row = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")
COLUMNS = ("step", "phase", "id", "group", "task", "level", "stop", "success", "total", "valid", "turns", "contexts", "seconds")
KEPT = pa.schema([*(SCHEMA.field(name) for name in COLUMNS), ("file", pa.string()), ("place", pa.int32())])
TEXT, MESSAGE = "spans.list.element.text", "spans.list.element.message"
CALLED = re.compile(r'"\$ToolCall": \{"name": ("(?:[^"\\]|\\.)*")')
"""A tool's name in a message's JSON.  Inside a text of that message the quotation marks are escaped, so it cannot be mistaken."""
AROUND = 60
"""Characters of a text that are shown on each side of what was found."""
ORDERS = {
    "newest": "step desc, phase, file, place",
    "oldest": "step, phase, file, place",
    "reward": "total desc, step desc, file, place",
    "lowest": "total, step desc, file, place",
    "longest": "turns desc, step desc, file, place",
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for; what is empty does not matter."""

    step: str = ""
    """A step, or two with a dash: from, to."""
    phase: str = ""
    level: str = ""
    task: str = ""
    """In the task's name."""
    reward: str = ""
    """A number, or two with `..`: at least, at most."""
    solved: str = ""
    """yes or no"""
    stop: str = ""
    group: str = ""
    tool: str = ""
    """A tool that was called."""
    text: str = ""
    """In what was seen and said, in small letters or large."""
    order: str = "newest"

    def conditions(self) -> tuple[list[str], list[Any]]:
        """SQL and its values.  Raises `ValueError` for what is no number."""
        sql: list[str] = []
        values: list[Any] = []
        for name in ("phase", "level", "stop", "group"):
            if given := getattr(self, name):
                sql.append(f'"{name}" = ?')
                values.append(given)
        if self.task:
            sql.append("contains(lower(task), lower(?))")
            values.append(self.task)
        if self.solved in ("yes", "no"):
            sql.append("success" if self.solved == "yes" else "not success")
        for name, column, mark in (("step", "step", "-"), ("reward", "total", "..")):
            bounds = _bounds(name, getattr(self, name), mark)
            if bounds:
                sql.append(f"{column} between ? and ?")
                values += bounds
        if self.order not in ORDERS:
            raise ValueError(f"order '{self.order}': found no such order (expected one of {', '.join(ORDERS)})")
        return sql, values

    def given(self) -> dict[str, str]:
        """What is not empty, for an address."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) and value != field.default}


def _bounds(name: str, given: str, mark: str) -> list[float]:
    if not given:
        return []
    low, found, high = given.strip().partition(mark)
    try:
        both = [float(low or "-inf"), float((high or "inf") if found else low)]
    except ValueError:
        raise ValueError(f"{name} '{given}': found no number (expected one as 3, or two as 3{mark}7)") from None
    return both


@dataclass(frozen=True)
class Found:
    """A page of what was found: how many there are, and the rows with `snippet` where a text was asked for."""

    total: int
    rows: list[Row]


class Gone(LookupError):
    """What was found a moment ago is there no more."""


class Shelf:
    """The episodes of a run folder, which may grow while they are read."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = Lock()
        self._files: dict[str, Kept] = {}
        self._tools: dict[str, tuple[tuple[int, int], list[tuple[str, ...]]]] = {}

    def table(self) -> pa.Table:
        """One small row for each episode."""
        with self._lock:
            paths = sorted(self.run.glob("episodes/*.parquet"))
            read = _each(lambda path: _kept(path, self._files.get(path.name)), paths)
            self._files = {path.name: kept for path, kept in zip(paths, read, strict=True) if kept is not None}
            return pa.concat_tables([table for _, table in self._files.values()] or [KEPT.empty_table()])

    def facets(self) -> dict[str, list[str]]:
        """The phases, levels and stop reasons that there are."""
        table = self.table()
        return {name: sorted(filter(None, pc.unique(table[name]).to_pylist())) for name in ("phase", "level", "stop")}

    def find(self, search: Search, *, offset: int = 0, most: int = 50) -> Found:
        """A page of the episodes that are looked for."""
        table = self.table()
        conditions, values = search.conditions()
        where = " and ".join(conditions) or "true"
        snippets: dict[tuple[str, int], str] = {}
        if search.tool or search.text:
            asked: dict[str, set[int]] = {}
            for row in _ask(table, f"select file, place from episodes where {where}", values):
                asked.setdefault(row["file"], set()).add(row["place"])
            found = _each(lambda item: self._said(search, *item), list(asked.items()))
            snippets = {(file, place): text for file, own in zip(asked, found, strict=True) for place, text in own.items()}
            table = _only(table, snippets)
        count = _ask(table, f"select count(*) as n from episodes where {where}", values)[0]["n"]
        sql = f"select * from episodes where {where} order by {ORDERS[search.order]} limit {int(most)} offset {int(offset)}"
        rows = _ask(table, sql, values)
        return Found(count, [{**row, "snippet": snippets.get((row["file"], row["place"]), "")} for row in rows])

    def tools(self) -> list[str]:
        """The names of all tools that were called."""
        self.table()
        return sorted({name for used in _each(self._tools_in, list(self._files)) for names in used for name in names})

    def index(self, **wanted: object) -> list[Row]:
        """The small rows whose columns have these values, in the order of steps."""
        where = " and ".join(f'"{name}" = ?' for name in wanted) or "true"
        return _ask(
            self.table(), f"select * from episodes where {where} order by step, phase, file, place", list(wanted.values())
        )

    def read(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """The whole episodes of small rows, in their order.  Raises `Gone` if the run has taken one back meanwhile."""
        places: dict[str, list[int]] = {}
        for row in rows:
            places.setdefault(row["file"], []).append(row["place"])
        found = {(file, place): row for file, wanted in places.items() for place, row in self._whole(file, wanted)}
        if gone := [row["id"] for row in rows if found.get((row["file"], row["place"]), {}).get("id") != row["id"]]:
            raise Gone(f"episode '{gone[0]}': the run went back to its checkpoint meanwhile (load the page again)")
        return [found[row["file"], row["place"]] for row in rows]

    def _whole(self, file: str, places: Sequence[int]) -> Iterator[tuple[int, Row]]:
        """Episodes of a file; only the row groups that hold them are read."""
        try:
            parquet, first = pq.ParquetFile(self._path(file)), 0
        except FileNotFoundError:
            return
        for number in range(parquet.num_row_groups):
            last = first + parquet.metadata.row_group(number).num_rows
            if mine := [place for place in places if first <= place < last]:
                part = parquet.read_row_group(number).take([place - first for place in mine])
                for place, row in zip(mine, part.to_pylist(maps_as_pydicts="strict"), strict=True):
                    yield (
                        place,
                        {name: row.get(name) for name in SCHEMA.names} | {"spans": [_span(span) for span in row["spans"]]},
                    )
            first = last

    def _path(self, file: str) -> Path:
        """Where a file lies that `table` has found."""
        return self.run / "episodes" / file

    def _said(self, search: Search, file: str, places: set[int]) -> dict[int, str]:
        """Of the episodes at `places` those with the tool and the text that are looked for, each with what stands around the text."""
        if search.tool:
            used = self._tools_in(file)
            places = {place for place in places if place < len(used) and search.tool in used[place]}
        if not search.text:
            return dict.fromkeys(places, "")
        try:
            return self._texts(file, search.text, places)
        except FileNotFoundError:  # the run went back to its checkpoint meanwhile
            return {}

    def _texts(self, file: str, text: str, places: set[int]) -> dict[int, str]:
        """Of the episodes at `places` those with the text, each with what stands around it."""
        column = pq.ParquetFile(self._path(file)).read(columns=[TEXT])["spans"].combine_chunks()
        texts = column.flatten().field("text")
        hits = pc.match_substring(texts, text, ignore_case=True)
        found: dict[int, str] = {}
        for place, number in zip(*_true(column, hits), strict=True):
            if place in places and place not in found:
                found[place] = around(texts[number].as_py(), text)
        return found

    def _tools_in(self, file: str) -> list[tuple[str, ...]]:
        """For each episode of a file the tools that were called."""
        stamp = _stamp(self._path(file))
        if stamp is None:
            return []
        if file not in self._tools or self._tools[file][0] != stamp:
            parquet = pq.ParquetFile(self._path(file))
            used: list[set[str]] = [set() for _ in range(parquet.metadata.num_rows)]
            column = parquet.read(columns=[MESSAGE])["spans"].combine_chunks()
            messages = column.flatten().field("message")
            for place, number in zip(*_true(column, pc.match_substring(messages, '"$ToolCall": {')), strict=True):
                used[place] |= {json.loads(name) for name in CALLED.findall(messages[number].as_py())}
            self._tools[file] = stamp, [tuple(sorted(names)) for names in used]
        return self._tools[file][1]


def around(text: str, what: str) -> str:
    """What stands around `what` in a text.

    >>> around("There are seven nails.", "SEVEN")
    'There are seven nails.'
    """
    at = max(text.lower().find(what.lower()), 0)
    first, last = max(at - AROUND, 0), at + len(what) + AROUND
    return ("..." if first else "") + text[first:last] + ("..." if last < len(text) else "")


def _true(column: pa.ListArray, hits: pa.BooleanArray) -> tuple[list[int], list[int]]:
    """Where `hits` of a flattened list column is true: the rows, and the places in the flattened column."""
    numbers = pc.indices_nonzero(pc.fill_null(hits, False))
    return pc.take(pc.list_parent_indices(column), numbers).to_pylist(), numbers.to_pylist()


Kept = tuple[tuple[int, int], pa.Table]
"""When a file was written and how long it is, and its small rows."""


def _kept(path: Path, old: Kept | None) -> Kept | None:
    """A file's small rows, those that are known if it is as it was; None if it went meanwhile, as the run went back to its checkpoint."""
    stamp = _stamp(path)
    if stamp is None or (old and old[0] == stamp):
        return old if stamp else None
    try:
        parquet = pq.ParquetFile(path)
        table = parquet.read(columns=[name for name in COLUMNS if name in parquet.schema_arrow.names])
    except FileNotFoundError:
        return None
    for name in COLUMNS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), KEPT.field(name).type))
    table = table.append_column("file", pa.array([path.name] * len(table), pa.string()))
    return stamp, table.append_column("place", pa.array(range(len(table)), pa.int32())).select(KEPT.names).cast(KEPT)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _each(work: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """The work on each thing, on all cores: Arrow reads without Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, things))


def _only(table: pa.Table, places: Mapping[tuple[str, int], str]) -> pa.Table:
    rows = zip(table["file"].to_pylist(), table["place"].to_pylist(), strict=True)
    return table.filter(pa.array([row in places for row in rows], pa.bool_()))


def _ask(table: pa.Table, sql: str, values: Sequence[Any]) -> list[Row]:
    with duckdb.connect() as database:
        database.register("episodes", table)
        rows: list[Row] = database.sql(sql, params=list(values)).to_arrow_table().to_pylist()
        return rows


def _span(span: Row) -> Row:
    """A span with every field; files of older versions lack some."""
    names = SCHEMA.field("spans").type.value_type
    return {names.field(i).name: span.get(names.field(i).name) for i in range(names.num_fields)}
