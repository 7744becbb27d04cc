"""Named evaluations: estimators by hand and by counting, and a run that measures with them before and after."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small
from pennies import game
from small_run import config, experiment

from sojourn.agents import react
from sojourn.core import Action, Environment, Episode, EpisodeGroup, Observation, Task, TrajectoryTree, Transition
from sojourn.policy import Session
from sojourn.store import RunFolder
from sojourn.training import Evaluation, Role, Trainer, train
from sojourn.training.evaluations import check_names, majority, pass_all, pass_at


@pytest.mark.parametrize("n", range(1, 7))
def test_estimators_are_means_over_all_draws(n: int) -> None:
    for solved in range(n + 1):
        tries = [i < solved for i in range(n)]
        for k in range(1, n + 1):
            draws = list(combinations(tries, k))
            assert pass_at(n, solved, k) == pytest.approx(np.mean([any(draw) for draw in draws]))
            assert pass_all(n, solved, k) == pytest.approx(np.mean([all(draw) for draw in draws]))


def test_the_majority_is_as_right_as_what_most_say() -> None:
    assert majority(["a", "b", "b"], [True, False, False]) == 0.0
    assert majority(["a", "a", "b"], [True, True, False]) == 1.0
    assert majority(["a", "b"], [True, False]) == 0.5


def group(level: str, *solved: bool) -> EpisodeGroup:
    task, tree = Task(f"{level}", {}, level), TrajectoryTree()
    episodes = [
        Episode(f"{level}/{i}", task, tree, info={"success": ok, "answer": "x" if ok else i}) for i, ok in enumerate(solved)
    ]
    return EpisodeGroup(level, task, tree, episodes)


def test_a_row_for_each_level_with_means_over_tasks() -> None:
    how = Evaluation(
        repetitions=4,
        ks=(1, 2),
        answer=lambda episode: str(episode.info["answer"]),
        metrics={"tries": lambda tries: float(len(tries))},
    )
    rows = how.rows(
        [group("1", True, True, False, False), group("1", False, False, False, False), group("2", True, True, True, False)]
    )
    assert rows[0] == {
        "level": "1",
        "tasks": 2,
        "success": 0.25,
        "pass@1": 0.25,
        "pass^1": 0.25,
        "pass@2": pytest.approx((5 / 6) / 2),
        "pass^2": pytest.approx((1 / 6) / 2),
        "maj@4": 0.5,
        "tries": 4.0,
    }
    assert rows[1]["pass^2"] == pytest.approx(0.5) and rows[1]["maj@4"] == 1.0


def test_more_draws_than_tries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"k=8 needs that many tries"):
        Evaluation(ks=(1, 8), repetitions=4)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [({"temprature": 0.0}, "'temprature' is none of max_tokens, temperature"), ({"top_p": 2.0}, "top_p=2.0")],
)
def test_sampling_is_checked_when_an_evaluation_is_made(sampling: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Evaluation(sampling=sampling)


class LosesOne(Environment):
    """Its server is gone for one of the held-out tasks."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        if task.id == "test/1":
            raise ConnectionResetError("the server is gone")
        return Observation.of("Say it.")

    async def step(self, action: Action) -> Transition:
        return Transition(reward=1.0, terminated=True)


def test_tries_that_failed_are_counted_beside_the_rate_and_told(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = replace(experiment(), environment=LosesOne)
    summary = train(config(tmp_path / "run", model, steps=0, eval_tasks=2, retries=0, eval_before=False), parts)
    (row,) = RunFolder(tmp_path / "run").evals()
    assert (row["tasks"], row["failed"], row["success"]) == (1, 1, 1.0)
    assert summary["failed_in_evaluations"] == 1 and "the server is gone" in summary["first_failure"]
    output = capsys.readouterr()
    assert "1 episodes failed (infrastructure 1), first 1:test/1/0" in output.out + output.err
    assert "the server is gone" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("name", ["sampled", "a/b", ""])
def test_names_that_are_taken_or_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="choose another name"):
        check_names({name: Evaluation()})


async def twice(session: Session) -> None:
    context, _ = await session.act(session.open(await session.reset()))
    context, action = await session.act(context)
    await session.step(context, action)


def test_a_run_measures_before_and_after_and_a_resumed_one_not_again(tmp_path: Path, model: Path) -> None:
    ways: dict[str, Any] = {
        "tries": Evaluation(repetitions=3, ks=(1, 3), count=2),
        "twice": Evaluation(program=twice, count=1, sampling={"temperature": 0.0}),
    }
    parts = replace(experiment(), evaluations=ways)
    settings = config(tmp_path / "run", model, steps=1, eval_every=0)
    summary = train(settings, parts)
    rows = RunFolder(tmp_path / "run").evals()
    assert [(row["eval"], row["mode"], row["tasks"]) for row in rows] == [
        (when, mode, tasks) for when in ("before", "after") for mode, tasks in (("sampled", 2), ("tries", 2), ("twice", 1))
    ]
    named = summary["evaluations"]["tries"]["after"]["default"]
    assert named["pass^3"] <= named["pass@1"] <= named["pass@3"]
    assert named["pass@1"] == pytest.approx(named["success"])
    assert json.loads((tmp_path / "run/summary.json").read_text())["evaluations"] == summary["evaluations"]
    page = (tmp_path / "run/report.html").read_text()
    assert "<h3>tries</h3>" in page and "<td>pass@3</td>" in page
    assert train(settings, parts) == summary
    assert len(RunFolder(tmp_path / "run").evals()) == len(rows)


async def silent(session: Session) -> None:
    """It says nothing of its own."""
    context = session.open(await session.reset())
    await session.step(session.say(context, Action("")), Action(""))


def test_baselines_play_the_same_tasks_with_a_program_of_their_own(tmp_path: Path, model: Path) -> None:
    """Plain characters pay: whoever says nothing fails each task."""
    parts = replace(experiment(), evaluations={"beside": Evaluation(count=2, baselines={"silent": silent, "itself": react})})
    train(config(tmp_path / "run", model, steps=0, eval_tasks=0), parts)
    (row,) = [row for row in RunFolder(tmp_path / "run").evals() if row["eval"] == "after"]
    assert row["baseline/silent"] == 0.0 and row["baseline/itself"] == row["success"] > 0


def test_an_evaluation_says_what_each_role_earned(tmp_path: Path, model: Path) -> None:
    """The game is zero-sum, so the mean over both seats says nothing."""
    parts = game({"even": Role(), "odd": Role()}, {"even": "even", "odd": "odd"})
    train(config(tmp_path / "run", model, steps=0, max_context=300), parts)
    for row in RunFolder(tmp_path / "run").evals():
        assert row["even/reward"] == -row["odd/reward"]
        assert row["success"] == 0.0 and {row["even/success"], row["odd/success"]} <= {0.0, 1.0}


def test_what_held_out_episodes_write_into_a_memory_is_forgotten(tmp_path: Path) -> None:
    class Memory:
        def __init__(self) -> None:
            self.notes: list[str] = []

        def state(self) -> Any:
            return self.notes

        def load_state(self, state: Any) -> None:
            self.notes = list(state)

    async def noting(session: Session) -> None:
        assert session.kept["memory"].notes == before
        session.kept["memory"].notes.append(session.episode.id)
        await react(session)

    memory, before = Memory(), ["a training episode"]
    memory.notes += before
    parts = replace(experiment(), program=noting, kept={"memory": memory})
    trainer = Trainer(config(tmp_path, tmp_path), parts, small())
    asyncio.run(trainer.evaluate(trainer.held_out(1)))
    assert memory.notes == before
