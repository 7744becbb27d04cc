"""Rows to records: every format of TRL, every file, and every way in which a row or a file cannot be used, by its name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sojourn.core import assistant, system, user
from sojourn.data import Kind, read

ASK, SAY, BAD = (
    [{"role": "user", "content": "q"}],
    [{"role": "assistant", "content": "a"}],
    [{"role": "assistant", "content": "b"}],
)
FORMATS: dict[Kind, list[dict[str, Any]]] = {
    "supervised": [
        {"messages": ASK + SAY},
        {"prompt": ASK, "completion": SAY},
        {"prompt": "q", "completion": "a"},
        {"text": "a"},
    ],
    "preference": [
        {"prompt": ASK, "chosen": SAY, "rejected": BAD},
        {"prompt": "q", "chosen": ASK + SAY, "rejected": ASK + BAD},
        {"chosen": ASK + SAY, "rejected": ASK + BAD},
        {"chosen": "Say it: a", "rejected": "Say it: b"},
    ],
    "verdict": [{"prompt": ASK, "completion": SAY, "label": True}],
    "logged": [{"prompt": ASK, "completion": SAY, "reward": 0.5}, {"messages": ASK + BAD, "reward": -1}],
    "prompt": [{"prompt": ASK, "answer": 4}, {"prompt": "q", "answer": 5}],
}


def written(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    (folder / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(folder / name)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_recognised_and_no_row_of_it_is_lost(kind: Kind, tmp_path: Path) -> None:
    found = read(written(tmp_path, FORMATS[kind]))
    assert (found.kind, found.rows, found.unusable) == (kind, len(FORMATS[kind]), ())


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_rows_are_the_same_records_in_every_file(kind: Kind, tmp_path: Path) -> None:
    """Parquet has one type for a column, and null where a row has none; JSON keeps each row as it is."""
    rows = [row for row in FORMATS[kind] if not any(isinstance(row.get(name), str) for name in ("prompt", "text", "chosen"))]
    lines = read(written(tmp_path, rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    names = {name for row in rows for name in row}
    parquet.write_table(pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows]), tmp_path / "rows.parquet")
    for other in (read(str(tmp_path / "rows.json")), read(str(tmp_path / "rows.parquet"))):
        assert [(r.prompt, r.answers, r.columns) for r in other.records] == [
            (r.prompt, r.answers, r.columns) for r in lines.records
        ]
        assert [r.where for r in other.records] == [r.where.replace("line", "row") for r in lines.records]


def test_what_a_record_holds(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": schema}}
    call = {"type": "function", "id": "1", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    talk = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": "sun"},
        {"role": "assistant", "content": "Sun."},
    ]
    (record,) = read(written(tmp_path, [{"messages": talk, "tools": json.dumps([tool]), "id": 7}])).records
    (answer,) = record.answers
    first, told, last = answer.said
    assert record.prompt == (system("s"), user("q"))
    assert (record.where, record.columns, record.tools[0].parameters) == ("line 1", {"id": 7}, schema)
    assert (first.calls[0].name, first.calls[0].arguments) == ("weather", {"city": "Bern"})
    assert (told.role, told.name, last) == ("tool", "weather", assistant("Sun."))


def test_answers_to_one_prompt_are_one_record(tmp_path: Path) -> None:
    rows = [{"prompt": ASK, "completion": each, "reward": r} for each, r in ((SAY, 1), (BAD, 0))]
    rows.insert(1, {"prompt": "p", "completion": "c", "reward": 2})
    found = read(written(tmp_path, rows))
    assert [(record.where, [a.reward for a in record.answers]) for record in found.records] == [
        ("line 1, line 3", [1.0, 0.0]),
        ("line 2", [2.0]),
    ]


SYSTEM, TOOL = [{"role": "system", "content": "s"}], [{"role": "tool", "content": "t"}]
BROKEN: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "it is no JSON"),
    "no object": ([1], "it is a JSON list, expected an object"),
    "a missing key": ({"prompt": ASK}, "it has no 'completion'"),
    "a null": ({"prompt": ASK, "completion": None}, "it has no 'completion'"),
    "a late system message": (
        {"messages": ASK + SAY + SYSTEM},
        "roles in a wrong order: message 3 (system) follows an assistant",
    ),
    "an answer first": ({"messages": SAY + ASK}, "the prompt is empty"),
    "two answers in a row": ({"messages": ASK + SAY + SAY}, "roles in a wrong order: message 3 (assistant) follows an assistant"),
    "a result without a call": ({"messages": ASK + SAY + TOOL}, "roles in a wrong order: message 3 (tool) follows an assistant"),
    "no question": ({"messages": SYSTEM + SAY}, "roles in a wrong order: no user message"),
    "a question for an answer": ({"prompt": ASK, "completion": ASK}, "roles in a wrong order: the answer begins with a user"),
    "a role that is none": ({"messages": [{"role": "bot", "content": "x"}]}, "there is no role 'bot'"),
    "no content": ({"messages": [{"role": "user"}]}, "its content is None"),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "expected a text or parts with a text"),
    "hidden thoughts": ({"messages": [*ASK, {**SAY[0], "thinking": "t"}]}, "'thinking' is not read yet"),
    "a text and messages": ({"prompt": "q", "completion": SAY}, "one of prompt and answer is a text"),
    "no answer": ({"messages": ASK}, "no assistant message"),
    "an empty answer": ({"prompt": "q", "completion": ""}, "the answer is empty"),
    "bad tools": ({"messages": ASK + SAY, "tools": "["}, "'tools' is a text that is no JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_kept(name: str, tmp_path: Path) -> None:
    row, reason = BROKEN[name]
    found = read(written(tmp_path, [{"prompt": ASK, "completion": SAY}, row, {"messages": ASK + BAD}]), ("supervised",))
    assert [record.where for record in found.records] == ["line 1", "line 3"]
    (unusable,) = found.unusable
    assert unusable.where == "line 2" and reason in unusable.reason
    assert found.told().startswith(f"data {tmp_path}/rows.jsonl: 1 of 3 rows cannot be used:\n  line 2: ")


def test_where_no_row_can_be_used_all_reasons_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 of 2 rows cannot be used:\n  line 1: .*\n  line 2: "):
        read(written(tmp_path, [{"messages": ASK}, {"messages": SAY}]))


@pytest.mark.parametrize(
    ("rows", "kinds", "message"),
    [
        ([], None, "is empty"),
        ([{"a": 1}], ("supervised",), "found columns a, expected messages; or prompt [+] completion"),
        ([{"messages": ASK + SAY}], ("preference",), "found columns messages, expected prompt [+] chosen [+] rejected"),
        ([{"messages": ASK + SAY}, {"prompt": ASK, "chosen": SAY, "rejected": BAD}], None, "mixes kinds: line 2 is preference"),
        ([{"prompt": ASK, "completion": SAY}, {"messages": ASK + SAY, "reward": 1}], ("verdict", "supervised"), None),
    ],
)
def test_a_file_that_cannot_be_used(rows: list[Any], kinds: Any, message: str | None, tmp_path: Path) -> None:
    name = written(tmp_path, rows)
    if message is None:
        assert len(read(name, kinds).records) == 2
        return
    with pytest.raises(ValueError, match=message):
        read(name, *([kinds] if kinds else []))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "a,b", "ends in '.csv', expected one of .jsonl"),
        ("rows.json", "{}", "found a JSON dict, expected a list"),
        ("rows.json", "{", "is no JSON"),
        ("rows.parquet", "text", "cannot be read as Parquet"),
        ("gone.jsonl", None, "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / name))


def test_a_data_set_of_the_library_is_read_or_said_not_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = FORMATS["logged"]
    whole = {"train": datasets.Dataset.from_list(rows), "test": datasets.Dataset.from_list(rows[:1])}
    datasets.DatasetDict(whole).save_to_disk(tmp_path / "saved")
    assert read(str(tmp_path / "saved")).records[0].answers[0].reward == 0.5
    assert read(f"{tmp_path}/saved:test").rows == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="no data set of this name could be loaded"):
        read("nobody/nothing")


def test_without_the_library_its_install_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'sojourn\[data\]'"):
        read("nobody/nothing")
