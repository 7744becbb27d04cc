"""GSM8K: the official split is kept, what is wrong with a file is told, and only the right number pays."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from small_worlds import play_out, say, solved

from sojourn.core import Action, InfrastructureError, ToolCall
from sojourn.environments import check_environment, find, gsm8k
from sojourn.environments.math import MathProblem

REAL = Path(__file__).parents[4] / "shared/data/gsm8k"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the data are not here")


def rows(start: int, count: int) -> str:
    """Problems of one to six steps."""
    made = []
    for i in range(start, start + count):
        steps = "".join(f"<<{k}+1={k + 1}>>{k + 1} " for k in range(i, i + 1 + i % 6))
        made.append(json.dumps({"question": f"What is {i} and {1 + i % 6} more?", "answer": f"{steps}\n#### {i + 1 + i % 6:,}"}))
    return "\n".join(made)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text(rows(0, 40))
    (tmp_path / "test.jsonl").write_text(rows(2000, 20))
    return tmp_path


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k_python"])
def test_a_folder_and_a_file_pass_the_checker(folder: Path, name: str) -> None:
    assert "solved: 18 of 18 by the oracle" in check_environment(find(f"math/{name}/{folder}"))
    assert "solved: 18 of 18 by the oracle" in check_environment(find(f"math/{name}/{folder / 'train.jsonl'}"))


def test_a_folders_split_is_kept_and_thousands_have_no_comma(folder: Path) -> None:
    tasks: Any = gsm8k(folder).tasks
    assert {split: sum(tasks.count(split, level) for level in tasks.levels) for split in ("train", "test")} == {
        "train": 40,
        "test": 20,
    }
    assert tasks.task("test", "2 steps", 0).data["answer"] == "2005"  # the first of one step: "2,005"


@real
def test_the_real_data_have_their_official_sizes_and_every_answer_is_a_number() -> None:
    tasks: Any = gsm8k(REAL).tasks
    counts = {split: [tasks.count(split, level) for level in tasks.levels] for split in ("train", "test")}
    assert (sum(counts["train"]), sum(counts["test"])) == (7473, 1319)
    assert "solved: 6 of 6 by the oracle" in check_environment(gsm8k(REAL), count=1)
    for level in tasks.levels:
        assert all(tasks.task("test", level, i).data["answer"].lstrip("-").replace(".", "").isdigit() for i in range(200))


@pytest.mark.parametrize("text", ["The answer:\n#### {}", "{}.0", "${}"])
def test_the_right_number_pays_and_its_neighbour_does_not(folder: Path, text: str) -> None:
    task = gsm8k(folder).tasks.task("train", "2 steps", 0)
    right = int(task.data["answer"])
    assert solved(play_out(MathProblem(), task, say(text.format(right))))
    assert not solved(play_out(MathProblem(), task, say(text.format(right + 1))))


def test_python_computes_over_turns_before_the_answer(folder: Path) -> None:
    world = gsm8k(folder, python=True)

    async def episode() -> tuple[str, Any]:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "2 steps", 0), seed=0)
        await environment.step(Action("", (ToolCall("python", {"code": "x = 6 * 7"}),)))
        seen = await environment.step(Action("", (ToolCall("python", {"code": "print(x)"}),)))
        await environment.close()
        return seen.observation.messages[0].text, seen.terminated

    assert asyncio.run(episode()) == ("42\n", False)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"question": "q"}', '{"question": "q", "answer": "72"}', '{"question": "", "answer": "#### 7"}']
)
def test_a_line_that_is_no_problem_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "mine.jsonl").write_text(rows(0, 1) + "\n" + line)
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 2: expected .*####"):
        gsm8k(tmp_path / "mine.jsonl")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*train\.jsonl: give 'hub', a folder"):
        gsm8k(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no training questions"):
        gsm8k(tmp_path / "empty.jsonl")


def test_a_question_in_both_splits_is_refused(folder: Path) -> None:
    (folder / "test.jsonl").write_text(rows(0, 2))
    with pytest.raises(ValueError, match="keep it in one split"):
        gsm8k(folder)


def test_a_hub_that_cannot_be_reached_is_the_infrastructures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionRefusedError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InfrastructureError, match=r"did not give openai/gsm8k .*no route.*give a folder"):
        gsm8k()


def test_the_hubs_tables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    import pyarrow as pa
    from pyarrow import parquet

    def stub_download(repo: str, file: str, **_: Any) -> str:
        split = "train" if "train" in file else "test"
        table = pa.Table.from_pylist([json.loads(line) for line in rows(0 if split == "train" else 100, 12).splitlines()])
        parquet.write_table(table, tmp_path / split)
        return str(tmp_path / split)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stub_download)
    assert "solved: 6 of 6 by the oracle" in check_environment(gsm8k(), count=1)
