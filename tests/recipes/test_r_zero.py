"""R-Zero's rounds: what a challenger is paid, by hand; votes, the pool and how true it is; who learns when, and from what."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import small

from sojourn.cli.recipe import load
from sojourn.core import Action, Episode, EpisodeGroup, Task, TrajectoryTree
from sojourn.curriculum import Outcome
from sojourn.store import RunFolder, query
from sojourn.training import Trainer, train

RECIPE = Path(__file__).parents[2] / "recipes/self_improvement/r_zero.py"


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load(str(RECIPE))


@pytest.fixture
def rounds(recipe: Any) -> ModuleType:
    return sys.modules["rounds"]


class Played:
    """A `play` whose challenger asks what it is told to, and whose solver answers by the question."""

    def __init__(self, asked: Sequence[str], answers: dict[str, str] | None = None) -> None:
        self.asked, self.answers = asked, answers or {}
        self.episodes: list[Episode] = []

    async def __call__(
        self, tasks: Sequence[Task], *, size: int, program: Any = None, environment: Any = None
    ) -> list[EpisodeGroup]:
        groups = []
        for task in tasks:
            group = EpisodeGroup(task.id, task, TrajectoryTree())
            said = self.asked if program else self.answers[task.data["question"]].split()
            assert len(said) == size
            group.episodes = [
                Episode(f"{task.id}/{n}", task, group.tree, info={"question" if program else "answer": text})
                for n, text in enumerate(said)
            ]
            groups.append(group)
            self.episodes += group.episodes if program else []
        return groups


def made(recipe: Any, **changes: Any) -> Any:
    config = recipe.config(**({"challenges": 1, "solutions": 2, "asked": 5, "votes": 4, "groups": 4, "group_size": 4} | changes))
    return recipe.experiment(config).curriculum


def test_doubt_is_paid_and_repetition_and_nonsense_cost(recipe: Any) -> None:
    """Answers to 7+8 split in halves, those to 1+1 agree: 1 - 2 |s - 1/2| is 1 and 0.  7+8 is asked by 2 of 4."""
    curriculum, play = made(recipe), Played(["7+8", "1+1", "7+8", "seven"])
    tasks = asyncio.run(curriculum.next(4, play))
    assert [task.data for task in tasks[:2]] == [{"question": "7+8", "label": None}, {"question": "1+1", "label": None}]
    assert len(tasks) == 4 and all(task.data["label"] is None for task in tasks)
    split, agreed = (Outcome(tasks[n], 0.0, True, answers=answers) for n, answers in enumerate([("15", "14") * 2, ("2",) * 4]))
    curriculum.pay([split, agreed])
    paid = [sum(episode.paid["challenger"].values()) for episode in play.episodes]
    assert paid == pytest.approx([1 - 2 / 4, 0 - 1 / 4, 1 - 2 / 4, -1 - 1 / 4])


def test_three_of_four_equal_answers_are_paid_a_half(recipe: Any) -> None:
    curriculum, play = made(recipe), Played(["7+8", "1+1", "2+2", "3+3"])
    tasks = asyncio.run(curriculum.next(4, play))
    curriculum.pay([Outcome(tasks[0], 0.0, True, answers=("15", "15", "15", "14"))])
    assert play.episodes[0].paid["challenger"]["unsure"] == pytest.approx(0.5)
    assert "unsure" not in play.episodes[1].paid["challenger"], "of a question that nobody answered nothing is known"


@pytest.mark.parametrize(("labels", "label"), [("vote", "14"), ("true", "15")])
def test_the_pool_holds_what_was_voted_on_in_the_band(recipe: Any, labels: str, label: str) -> None:
    """Shares 3/4, 1, 1/4, 1/2; only the first and the last are between 0.3 and 0.8, and one of the two votes is right."""
    curriculum = made(recipe, labels=labels, challenges=1)
    held_out = "+".join(sys.modules["sums"].HELD_OUT[0].split("+")[::-1])
    asyncio.run(curriculum.next(4, Played(["1+1"] * 4)))
    answers = {"7+8": "14 14 14 15", "1+1": "2 2 2 2", "9+9": "1 2 3 4", "6+6": "12 12 3 4"}
    tasks = asyncio.run(curriculum.next(3, Played(["7+8", "1+1", "9+9", held_out, "6+6"], answers)))
    assert [task.data for task in tasks] == [
        {"question": "7+8", "label": label}, {"question": "6+6", "label": "12"}, {"question": "7+8", "label": label}
    ]  # fmt: skip
    assert curriculum.describe() == {"questions": 4, "pool": 2, "true labels": 0.5}
    [last] = asyncio.run(curriculum.next(1, Played([])))
    assert last.data["question"] == "6+6", "a phase goes on through its pool"


def test_a_resumed_round_goes_on(recipe: Any) -> None:
    first, second = made(recipe), made(recipe)
    asyncio.run(first.next(4, Played(["1+1"] * 4)))
    asyncio.run(first.next(3, Played(["7+8"] * 5, {"7+8": "14 14 15 16"})))
    second.load_state(json.loads(json.dumps(first.state())))
    assert asyncio.run(second.next(3, Played([]))) == asyncio.run(first.next(3, Played([])))
    assert second.state() == first.state()


def test_an_answer_is_held_to_its_label(recipe: Any) -> None:
    world = sys.modules["sums"].Sums()

    def paid(label: str | None, text: str) -> dict[str, float]:
        asyncio.run(world.reset(Task("t", {"question": "7+8", "label": label}), seed=0))
        return dict(asyncio.run(world.step(Action(text))).reward)

    assert paid("14", "14") == {"accuracy": 0.9, "format": 0.1}
    assert paid("14", "15") == {"accuracy": 0.0, "format": 0.1}
    assert paid("14", "so") == {"accuracy": 0.0, "format": 0.0}
    assert paid(None, "15") == {}


def test_they_take_turns_and_voting_is_no_lesson(
    recipe: Any, rounds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe.config(
        run=str(tmp_path), challenges=1, solutions=1, asked=6, votes=3, groups=2, group_size=4, low=0.0, high=1.0, max_tokens=2
    )
    run = Trainer(config, recipe.experiment(config), small())
    numbers = iter(range(1000))
    monkeypatch.setattr(rounds, "QUESTION", sys.modules["re"].compile("(?s).*"))
    monkeypatch.setattr(rounds, "truth", lambda question: "")
    labelled = rounds.Rounds._labelled

    async def with_labels(self: Any, play: Any) -> Any:
        pool = await labelled(self, play)
        return [row | {"label": chr(97 + next(numbers) % 26)} for row in pool]

    monkeypatch.setattr(rounds.Rounds, "_labelled", with_labels)
    world = run.experiment.environment

    def paying() -> Any:
        made, reward = world(), float(next(numbers) % 2)
        step = made.step

        async def answered(action: Any) -> Any:
            told = await step(action)
            return replace(told, reward={"accuracy": reward} if made.label else {})

        made.step = answered
        return made

    object.__setattr__(run.experiment, "environment", paying)
    for step, who in enumerate(["challenger", "solver"]):
        before = {name: [p.clone() for p in player.model.parameters()] for name, player in run.players.items()}
        groups, _ = asyncio.run(run.train_step())
        moved = {
            name: any(not torch.equal(*pair) for pair in zip(player.model.parameters(), before[name], strict=True))
            for name, player in run.players.items()
        }
        assert moved == {name: name == who for name in moved}, step
    played = [group for group in groups if group.key.startswith("play ")]
    assert len(played) > 1, "questions were asked, and answered for the vote"
    learned_from, learned = run._last["solver"]
    for number, group in enumerate(learned_from):
        told = {reason for reason, where in zip(learned.reason_E, learned.table.group_E, strict=True) if where == number}
        assert group.task.data["label"] or all(told), "what has no label is not trained"


def test_figures_tell_of_each_round(recipe: Any, tmp_path: Path) -> None:
    """Every figure that a claim reads is there, and the pool of a round is told once."""
    config = recipe.config(
        run=str(tmp_path / "run"), model="tiny", challenges=1, solutions=1, asked=4, votes=2, steps=4, eval_every=2, groups=2,
        group_size=2, eval_tasks=3, checkpoint_every=0,
    )  # fmt: skip
    train(config, recipe.experiment(config))
    run = RunFolder(tmp_path / "run")
    found = recipe.module.figures(run)
    assert set(found["round 1"]) == {
        row["task"] for row in query(run.path, "select task from episodes where phase = 'eval-after-sampled'")
    }
    told = [row["curriculum"] for row in run.metrics()]
    assert told[0] == {} and told[1] == told[2], "the pool of a round is there until the next one"
    assert [found[f"round {n}, pool"] for n in (1, 2)] == [told[1]["pool"], told[3]["pool"]]
    read = {name for claim in recipe.module.CLAIMS.values() for name in names(claim)}
    assert read - found.keys() == {"before/sampled", "after/sampled"}


def names(claim: Any) -> set[str]:
    """The figures that a claim looks at."""
    seen: set[str] = set()

    def look(arm: str, figure: str) -> float:
        seen.add(figure)
        return 0.0

    claim.value(look)
    return seen
