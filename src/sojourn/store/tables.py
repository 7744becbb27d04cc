"""The tables of a run folder: episodes as Parquet files, metrics and evaluations as JSON lines, asked with SQL.

    select level, avg(success::int) from episodes where phase = 'train' group by level
    select id, span.text from (select id, unnest(spans) as span from episodes) where span.kind = 'action'

The one idea: a column that a file does not have is null, so files of older versions stay readable beside newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from sojourn.core.text import well_formed_values
from sojourn.store.episodes import SCHEMA, Row
from sojourn.store.files import write_atomic

LINES = "read_json_auto({}, format='newline_delimited', union_by_name=true, ignore_errors=true)"
"""A last line that a kill tore is left out."""
ROW_GROUP = 128
"""Episodes that are read together; one episode of a large file costs that many."""


def write_episodes(path: Path, rows: Sequence[Row]) -> None:
    """Write rows made by `to_row` as one Parquet file, atomically."""
    pairs = [_pairs(row) for row in rows]
    try:
        table = pa.Table.from_pylist(pairs, schema=SCHEMA)
    except UnicodeEncodeError:  # walking through every token's number takes time, so only for those who need it
        table = pa.Table.from_pylist(well_formed_values(pairs), schema=SCHEMA)
    write_atomic(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP))


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


def _pairs(row: Row) -> Row:
    """Maps as lists of pairs, as Arrow wants them."""
    spans = [{**span, "reward": list(span["reward"].items())} for span in row["spans"]]
    return {**row, "rewards": list(row["rewards"].items()), "final": list(row["final"].items()), "spans": spans}
