"""Writing files so that a kill or a full disk never costs what was there before.

The one idea: a file is written beside its name and renamed onto it when it is whole.  A line that a kill tore is no row: readers pass
over it, and the next append removes it, so that it never grows together with what follows.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from sojourn.core.text import well_formed

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space on the device; the user's quota is used up; the file would grow past the allowed size."""


class DiskFullError(OSError):
    """There was no room for a file.  What the file held before is untouched."""

    def __init__(self, path: Path, free: int) -> None:
        super().__init__(
            f"cannot write {path}: the disk is full ({free / 2**20:.0f} MiB free). Nothing was lost: what {path.name} held before "
            "is untouched. Free some space, or move the run folder to a larger disk, and run the same command again; it resumes "
            "from the last checkpoint."
        )


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file (or a folder) under a temporary name, then rename it to `path`.

    An existing file is replaced in one step; an existing folder is not (give each version of it its own name).  When `write` fails
    nothing of it stays.  Raises `DiskFullError` if the reason was a full disk, else what `write` raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    _remove(temporary)
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    except Exception as error:
        free = shutil.disk_usage(path.parent).free
        _remove(temporary)
        if _is_full(error, free):
            raise DiskFullError(path, free) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed calls of `write_atomic` left in a folder and the folders in it."""
    for temporary in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        _remove(temporary)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: _write_text(temporary, text))


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append `row` as one line of JSON and flush it to the disk.  On a full disk the file is what it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(plain(row), ensure_ascii=False).encode() + b"\n"
    with path.open("a+b", buffering=0) as file:
        line = _after_torn_line(file) + line
        size = file.tell()
        try:
            written = file.write(line)
            if written < len(line):
                file.write(line[written:])
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(size)
            free = shutil.disk_usage(path.parent).free
            if _is_full(error, free):
                raise DiskFullError(path, free) from error
            raise


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none if there is no file.  Lines that a kill tore are left out."""
    if not path.exists():
        return []
    return [row for line in path.read_bytes().split(b"\n") if (row := _row(line)) is not None]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as JSON lines, atomically."""
    text = "".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, lambda temporary: _write_text(temporary, text))


def plain(value: object) -> Any:
    """`value` as JSON can hold it: dataclasses and mappings as objects, arrays as lists, numbers that are not finite as null.

    >>> plain({"a": (1, 2.5), "b": float("nan"), "c": Path("x")})
    {'a': [1, 2.5], 'b': None, 'c': 'x'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {well_formed(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return well_formed(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return plain(value.tolist())
    return well_formed(str(value))


def _row(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds; None for a line that was torn: an object that lacks its end is no JSON."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _after_torn_line(file: FileIO) -> bytes:
    """Drop a last line that was torn, and stand at the end.  Returns the newline of a row that lacks nothing else."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read() in (b"", b"\n"):
        return b""
    file.seek(0)
    before, newline, last = file.readall().rpartition(b"\n")
    if _row(last) is not None:
        return b"\n"
    file.truncate(len(before) + len(newline))
    file.seek(0, os.SEEK_END)
    return b""


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _is_full(error: Exception, free: int) -> bool:
    """Libraries that write in C++ (torch, safetensors) report a full disk without an errno, so the disk is asked as well."""
    return (isinstance(error, OSError) and error.errno in FULL) or "No space left" in str(error) or free < 2**16
