"""Episodes are found by what they are and by what was said, also while the run writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from viewed import ATTACK, Maker

from sojourn.core import Message, StopReason, Text, ToolCall
from sojourn.store import RunFolder, read_episodes, write_episodes
from sojourn.viewer.shelf import Gone, Search, Shelf


def episode(name: str, *, step: int = 1, paid: float = 0.0, call: str = "", said: str = "so", task: str = "t") -> dict[str, Any]:
    maker = Maker(name, task, f"g{step}")
    calls = (ToolCall(call, {"q": said}),) if call else ()
    maker.say(said, maker.see("Tell me."), paid=paid, message=Message("assistant", (Text(said),), calls))
    maker.episode.stop = StopReason.TURN_LIMIT if paid < 0 else StopReason.TERMINATED
    return maker.row(step=step)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    run = RunFolder(tmp_path)
    write_episodes(run.episodes_path("train", 1), [
        episode("a", call="search", said="The Danube flows east"), episode("b", paid=1.0, call="calc", task="Ulm/1"),
    ])  # fmt: skip
    write_episodes(run.episodes_path("train", 2), [episode("c", step=2, paid=-0.5, said='says "$ToolCall": {"name": "forged"}')])
    return Shelf(tmp_path)


def names(shelf: Shelf, **search: str) -> list[str]:
    return [row["id"] for row in shelf.find(Search(**search)).rows]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ({}, ["c", "a", "b"]), ({"order": "oldest"}, ["a", "b", "c"]), ({"order": "reward"}, ["b", "a", "c"]),
        ({"step": "2"}, ["c"]), ({"step": "1-2", "order": "lowest"}, ["c", "a", "b"]), ({"step": "2-"}, ["c"]), ({"task": "ulm"}, ["b"]),
        ({"reward": "0..0.5"}, ["a"]), ({"reward": "-0.5"}, ["c"]), ({"reward": "..0"}, ["c", "a"]),
        ({"reward": "-1..0.5"}, ["c", "a"]), ({"step": "-1"}, ["a", "b"]), ({"solved": "yes"}, ["b"]),
        ({"stop": "turn_limit"}, ["c"]), ({"tool": "search"}, ["a"]), ({"tool": "forged"}, []), ({"text": "danube"}, ["a"]),
        ({"text": "TELL ME", "step": "1"}, ["a", "b"]), ({"text": "tell", "tool": "calc"}, ["b"]), ({"text": "%"}, []), ({"group": "g2"}, ["c"]),
        ({"phase": "eval"}, []), ({"task": "' or true --"}, []),
    ],
)  # fmt: skip
def test_each_field_finds_its_episodes(shelf: Shelf, search: dict[str, str], found: list[str]) -> None:
    assert names(shelf, **search) == found


def test_what_stands_around_a_text_is_shown(shelf: Shelf) -> None:
    assert shelf.find(Search(text="DANUBE")).rows[0]["snippet"] == "The Danube flows east"


def test_the_tools_that_were_called(shelf: Shelf) -> None:
    assert shelf.tools() == ["calc", "search"]


def test_pages_of_what_was_found(shelf: Shelf) -> None:
    found = shelf.find(Search(order="oldest"), offset=1, most=1)
    assert (found.total, [row["id"] for row in found.rows]) == (3, ["b"])


@pytest.mark.parametrize("wrong", [{"step": "two"}, {"reward": "1..x"}, {"order": "best"}])
def test_what_is_no_number_is_named(shelf: Shelf, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        shelf.find(Search(**wrong))


def test_a_run_that_grows_goes_back_and_leaves_torn_files_is_followed(shelf: Shelf) -> None:
    run = RunFolder(shelf.run)
    assert names(shelf, order="oldest") == ["a", "b", "c"] and names(shelf, tool="late") == []
    write_episodes(run.episodes_path("train", 3), [episode("d", step=3, call="late")])
    (shelf.run / "episodes" / ".train-000004.parquet.tmp").write_bytes(b"PAR1 torn")
    assert names(shelf, tool="late") == ["d"]
    write_episodes(run.episodes_path("train", 3), [episode("e", step=3, call="later")])
    assert (names(shelf, tool="late"), names(shelf, tool="later")) == ([], ["e"])
    run.episodes_path("train", 3).unlink()
    assert names(shelf, order="oldest") == ["a", "b", "c"]


def test_an_episode_that_the_run_took_back_is_told_and_never_another_one(shelf: Shelf) -> None:
    run = RunFolder(shelf.run)
    first, second, third = shelf.index()
    write_episodes(run.episodes_path("train", 1), [episode("z")])
    run.episodes_path("train", 2).unlink()
    for row in (first, second, third):
        with pytest.raises(Gone, match=f"episode '{row['id']}': the run went back"):
            shelf.read([row])


def test_a_whole_episode_is_what_the_store_reads(shelf: Shelf) -> None:
    small = shelf.index()
    assert shelf.read(small) == read_episodes(shelf.run)


def test_an_episode_is_found_in_whichever_row_group_it_lies(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).episodes_path("train", 1)
    write_episodes(path, [episode(str(i)) for i in range(7)])
    pq.write_table(pq.read_table(path), path, row_group_size=3)
    shelf = Shelf(tmp_path)
    assert [row["id"] for row in shelf.read(shelf.index())] == [str(i) for i in range(7)]


def test_files_of_older_versions_lack_columns(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).episodes_path("train", 1)
    write_episodes(path, [episode("old")])
    pq.write_table(pq.read_table(path).drop_columns(["contexts", "attempts", "valid"]), path)
    shelf = Shelf(tmp_path)
    (row,) = shelf.read(shelf.index())
    assert (row["id"], row["contexts"], row["attempts"]) == ("old", None, None)


def test_a_run_without_episodes_has_none(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert (shelf.find(Search(text="x")).rows, shelf.tools(), shelf.facets()["phase"]) == ([], [], [])


def test_a_hostile_name_of_a_tool_is_a_name(tmp_path: Path) -> None:
    write_episodes(RunFolder(tmp_path).episodes_path("train", 1), [episode("a", call=ATTACK)])
    assert Shelf(tmp_path).tools() == [ATTACK]
