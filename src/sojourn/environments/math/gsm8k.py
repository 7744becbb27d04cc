"""GSM8K: 8,792 word problems of grade school, with or without a Python interpreter.

The one idea: the official split is kept, so a score on the held-out tasks is the one that papers report; the level is the number of
calculations that the solution marks (`<<48/2=24>>`).

Source: Cobbe et al., arXiv 2110.14168; data under the MIT licence, https://github.com/openai/grade-school-math.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sojourn.core import Action, InfrastructureError, Observation, Split, Task, Transition
from sojourn.environments.small.common import split_of
from sojourn.environments.tools import ToolEnvironment, answer_text
from sojourn.environments.world import TaskList, World
from sojourn.rewards.math_answer import math_answer
from sojourn.tools import PythonInterpreter

HUB = "hub"
REPOSITORY, PARQUET = "openai/gsm8k", "main/{}-00000-of-00001.parquet"
LEVELS = ("2 steps", "3 to 4 steps", "5 steps")
"""By the calculations that the solution marks: up to two, three or four, five and more."""
SPLITS: tuple[Split, ...] = ("train", "test")


class MathProblem(ToolEnvironment):
    """A question with a right answer, judged by `rewards.math_answer`.

    Reward: `correct`, 1 or 0, paid for the answer, which ends the episode: the whole text, or what the protocol's answer field holds;
    what follows the last `####` counts.  `task.data`: `question`, `answer`, `solution`.

    python: offers a Python interpreter in a sandbox; its variables live through the episode.
    cpu_s: seconds of the processor that judging one answer may take.
    """

    def __init__(self, *, python: bool = False, cpu_s: int = 5) -> None:
        super().__init__((PythonInterpreter(),) if python else ())
        self._cpu_s = cpu_s

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._task, self.tool_calls, self._faults = task, 0, 0
        return Observation.of(task.data["question"])

    async def answer(self, action: Action) -> Transition:
        verdict = await math_answer(answer_text(action), self._task.data["answer"], cpu_s=self._cpu_s)
        failures = (verdict.failure,) if verdict.failure else ()
        reward = {"correct": float(verdict.correct)}
        return Transition(reward=reward, terminated=True, failures=failures, info={"success": verdict.correct})

    def oracle(self) -> Action:
        answer = self._task.data["answer"]
        return Action("", answer=answer)


def gsm8k(source: str | Path = HUB, *, python: bool = False) -> World:
    """The world of GSM8K.

    source: `hub` for openai/gsm8k of the Hugging Face hub; a folder with train.jsonl and test.jsonl; or one .jsonl file of lines
    `{"question": ..., "answer": "... #### 72"}`, of which a hash of the question decides the split.

    Raises ValueError that names the file and line that is wrong, InfrastructureError if the hub does not give the data.
    """
    path = Path(source).expanduser()
    if str(source) == HUB:
        rows = {split: _from_hub(split) for split in SPLITS}
    elif path.is_dir():
        rows = {split: _from_file(path / f"{split}.jsonl") for split in SPLITS}
    else:
        mixed = _from_file(path)
        rows = {split: [row for row in mixed if split_of(row["question"]) == split] for split in SPLITS}
    train, test = ([_task(split, i, row) for i, row in enumerate(rows[split])] for split in SPLITS)
    if not train:
        raise ValueError(f"{source} has no training questions: expected lines of {{'question': ..., 'answer': '... #### 72'}}")
    return World(partial(MathProblem, python=python), _by_level(train, test))


def _by_level(train: list[Task], test: list[Task]) -> TaskList:
    """Easiest first; a level of which one split has nothing is left out of the other."""
    shared = {task.level for task in train} & {task.level for task in test} if test else {task.level for task in train}
    kept = sorted((task for task in train if task.level in shared), key=lambda task: LEVELS.index(task.level))
    return TaskList(kept, [task for task in test if task.level in shared])


def _task(split: Split, index: int, row: Mapping[str, str]) -> Task:
    solution, _, answer = row["answer"].rpartition("####")
    steps = solution.count("<<")
    level = LEVELS[0] if steps <= 2 else LEVELS[1] if steps <= 4 else LEVELS[2]
    data = {"question": row["question"], "answer": answer.strip().replace(",", ""), "solution": solution.strip()}
    return Task(f"gsm8k/{split}/{index}", data, level)


def _from_file(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(
            f"GSM8K: there is no file {path}: give 'hub', a folder with train.jsonl and test.jsonl, or a .jsonl file"
        )
    with path.open(encoding="utf-8") as lines:
        return _checked(((f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()))


def _checked(lines: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    rows = []
    for where, line in lines:
        try:
            row: Any = json.loads(line)
            question, answer = row["question"], row["answer"]
            if not question.strip() or not answer.rpartition("####")[1] or not answer.rpartition("####")[2].strip():
                raise ValueError("no answer after ####")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f'GSM8K: {where}: expected {{"question": ..., "answer": "... #### 72"}}: {error!r}') from error
        rows.append({"question": question, "answer": answer})
    return rows


def _from_hub(split: Split) -> list[dict[str, str]]:
    from huggingface_hub import hf_hub_download
    from pyarrow import parquet

    try:
        path = hf_hub_download(REPOSITORY, PARQUET.format(split), repo_type="dataset", etag_timeout=10)
    except Exception as error:  # whatever the network throws
        raise InfrastructureError(
            f"the hub did not give {REPOSITORY} ({type(error).__name__}: {error}): "
            "give a folder with its train.jsonl and test.jsonl, from https://github.com/openai/grade-school-math"
        ) from error
    rows: list[dict[str, str]] = parquet.read_table(path).to_pylist()
    return rows
