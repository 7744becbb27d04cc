"""A kill or a full disk never costs what a file held before."""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.store import DiskFullError, write_atomic, write_json
from sojourn.store.files import append_row, plain, read_rows


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """The operating system refuses files that grow past `size` bytes: a disk that fills up, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(path: Path) -> None:
    path.write_bytes(b"x" * 100)
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_keeps_the_previous_file_and_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_json(file, {"good": 1})
    with pytest.raises(DiskFullError, match=r"state\.json.*full.*Free some space"):
        write_atomic(file, fill)
    assert file.read_text() == '{\n  "good": 1\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_full_disk_reported_without_errno_is_recognised(tmp_path: Path) -> None:
    def save(path: Path) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: No space left on device")

    with pytest.raises(DiskFullError):
        write_atomic(tmp_path / "weights.pt", save)


def test_other_errors_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    def save(path: Path) -> None:
        path.mkdir()
        (path / "part").write_text("half")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_atomic(tmp_path / "folder", save)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_write_do_not_disturb_the_next(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.tmp").mkdir()
    (tmp_path / ".checkpoint.tmp" / "old").write_text("torn")

    def save(path: Path) -> None:
        path.mkdir()
        (path / "new").write_text("whole")

    write_atomic(tmp_path / "checkpoint", save)
    assert [file.name for file in (tmp_path / "checkpoint").iterdir()] == ["new"]


def test_row_that_does_not_fit_leaves_the_rows_before_it(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    append_row(file, {"step": 1})
    before = file.read_bytes()
    with room_for(len(before) + 5), pytest.raises(DiskFullError, match=r"metrics\.jsonl"):
        append_row(file, {"step": 2, "reward": 0.25})
    assert file.read_bytes() == before


def test_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2, "rew')
    assert read_rows(file) == [{"step": 1}]


@pytest.mark.parametrize("torn", [b'{"step": 2, "rew', b"{", b"\x00\x00", b'{"step": 2}\x00'])
def test_what_is_appended_after_a_torn_line_is_read(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "starts.jsonl"
    file.write_bytes(b'{"step": 1}\n' + torn)
    append_row(file, {"step": 3})
    append_row(file, {"step": 4})
    assert file.read_text() == '{"step": 1}\n{"step": 3}\n{"step": 4}\n'


def test_a_row_that_lacks_nothing_but_its_newline_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "starts.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}')
    assert read_rows(file) == [{"step": 1}, {"step": 2}]
    append_row(file, {"step": 3})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_a_torn_line_amid_others_is_left_out(tmp_path: Path) -> None:
    """Older versions appended to it."""
    file = tmp_path / "starts.jsonl"
    file.write_text('{"step": 1}\n{"step": 2, "re{"step": 3}\n\n{"step": 4}\n')
    assert read_rows(file) == [{"step": 1}, {"step": 4}]


def test_text_that_no_file_can_hold_is_written_with_a_mark(tmp_path: Path) -> None:
    bad, mark = "a\ud83d", "a\ufffd"
    append_row(tmp_path / "rows.jsonl", {bad: [bad]})
    write_json(tmp_path / "one.json", {bad: {bad}})
    assert read_rows(tmp_path / "rows.jsonl") == [{mark: [mark]}]
    assert json.loads((tmp_path / "one.json").read_text()) == {mark: [mark]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=4))
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    for row in rows:
        append_row(file, row)
    assert read_rows(file) == rows


def test_numbers_of_numpy_and_not_finite_become_json() -> None:
    assert plain({"a": np.float32(0.5), "b": np.arange(2), "c": float("inf"), "d": np.float64("nan")}) == {
        "a": 0.5,
        "b": [0, 1],
        "c": None,
        "d": None,
    }
