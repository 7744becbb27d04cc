"""Rows of a data set: JSONL, JSON, Parquet, or a data set of the Hugging Face hub.

The one idea: a row is a mapping of columns and knows where it stands (`line 7`), so that whatever is wrong with it later can be named.
A line that is no JSON object is a row, too: one that cannot be used, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that cannot be used: where it stands, and why.

    >>> str(Unusable("line 3", "it has no 'completion'"))
    "line 3: it has no 'completion'"
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it stands, and its columns; those that are null are left out, as Parquet gives every row all columns."""

    where: str
    columns: Mapping[str, Any]


def read_rows(source: str) -> list[Row | Unusable]:
    """All rows of `source`: a file, a folder that `datasets` saved, or `NAME` or `NAME:SPLIT` on the hub.

    Raises `ValueError` if there is no such thing, if it has no rows, or if a file's ending says nothing; `ImportError` where a data set
    needs the library `datasets` and that is not installed.
    """
    path = Path(source).expanduser()
    if path.is_file():
        found = list(_of_file(path))
    elif path.suffix in ENDINGS:
        raise ValueError(f"data {source}: there is no such file (looked in {path.resolve().parent})")
    else:
        found = list(_numbered("row", _of_library(source, path)))
    if not found:
        raise ValueError(f"data {source} is empty: it has no rows")
    return found


def without_nulls(value: Any) -> Any:
    """`value` without the keys that hold null, at any depth: Arrow gives all structs of a column the same keys.

    >>> without_nulls({"role": "user", "calls": None, "parts": [{"a": 1, "b": None}]})
    {'role': 'user', 'parts': [{'a': 1}]}
    """
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def _of_file(path: Path) -> Iterator[Row | Unusable]:
    match path.suffix:
        case ".jsonl" | ".ndjson":
            with path.open(encoding="utf-8") as lines:
                yield from (_of_line(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip())
        case ".json":
            rows = _parsed(path)
            yield from _numbered("row", rows)
        case ".parquet":
            yield from _numbered("row", _of_parquet(path))
        case _:
            raise ValueError(f"data {path}: found a file that ends in '{path.suffix}', expected one of {', '.join(ENDINGS)}")


def _of_line(where: str, line: str) -> Row | Unusable:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Unusable(where, f"it is no JSON ({error})")
    return _row(where, value)


def _parsed(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data {path} is no JSON: {error} (a file with one object a line ends in .jsonl)") from error
    if not isinstance(rows, list):
        raise ValueError(f"data {path}: found a JSON {type(rows).__name__}, expected a list of rows")
    return rows


def _of_parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        for batch in table.iter_batches():
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"data {path} cannot be read as Parquet: {error}") from error


def _of_library(source: str, path: Path) -> Iterable[Any]:
    """A data set that the library `datasets` knows: a folder that it saved, or a name on the hub."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"data {source}: there is no such file; to read it as a data set of the hub, pip install 'sojourn[data]'"
        ) from error
    name, _, split = source.partition(":")
    try:
        found = datasets.load_from_disk(name) if path.is_dir() else datasets.load_dataset(name, split=split or "train")
        rows = found[split or "train"] if isinstance(found, datasets.DatasetDict) else found
    except Exception as error:  # the library, the hub and the network fail in many ways
        said = str(error).partition("\n")[0]
        raise ValueError(
            f"data {source}: there is no such file, and no data set of this name could be loaded "
            f"({type(error).__name__}: {said}); give a file, a folder that `datasets` saved, or NAME or NAME:SPLIT of the hub"
        ) from error
    loaded: Iterable[Any] = rows
    return loaded


def _numbered(what: str, values: Iterable[Any]) -> Iterator[Row | Unusable]:
    return (_row(f"{what} {number}", value) for number, value in enumerate(values, 1))


def _row(where: str, value: Any) -> Row | Unusable:
    if not isinstance(value, Mapping):
        return Unusable(where, f"it is a JSON {type(value).__name__}, expected an object with columns")
    return Row(where, without_nulls(value))
