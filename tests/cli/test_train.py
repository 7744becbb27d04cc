"""`sojourn train`, `eval`, `report`: recipes are found, fields are set, runs are measured, mistakes cost nothing."""

import json
from pathlib import Path

import pytest

from sojourn.cli import recipe as recipes
from sojourn.cli.evaluate import level_rows
from sojourn.cli.table import rate
from sojourn.core import Episode, EpisodeGroup, Failure, FailureKind, Task, TrajectoryTree

RECIPE = '''"""A recipe of the user's own."""
from __future__ import annotations
from dataclasses import dataclass
from sojourn import Experiment, PlainText, TrainConfig, Uniform, from_function

@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    letter: str = "a"
    """What is rewarded."""
    sizes: tuple[int, ...] = (1, 2)
    """Read back as a tuple."""

def experiment(config: Config) -> Experiment:
    assert isinstance(config.sizes, tuple)
    world = from_function(lambda p, c: float(config.letter in c), ["one", "two"], test=["three"])
    return Experiment(environment=world.make, tasks=world.tasks, protocol=PlainText(), curriculum=Uniform(world.tasks))
'''


@pytest.fixture
def mine(here: Path) -> Path:
    """A recipe in ./recipes."""
    path = here / "recipes" / "area" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text(RECIPE)
    return path


def test_a_run_is_trained_measured_and_measured_again(sojourn, mine: Path, few_steps: list[str]) -> None:
    code, out, _ = sojourn(
        "train", "area/mine", *few_steps, "--run", "r", "--optimizer.learning-rate", "1e-4", "--group_size", "3"
    )
    config = json.loads(Path("r/config.json").read_text())
    assert code == 0
    assert out.splitlines()[-1] == "report:  r/report.html"
    assert Path("r/report.html").exists()
    assert "before" in out
    assert "after" in out
    assert (config["optimizer"]["learning_rate"], config["group_size"], config["letter"]) == (1e-4, 3, "a")

    mine.unlink()  # the run knows its own recipe
    files = {path: path.stat().st_mtime_ns for path in Path("r").rglob("*")}
    code, out, _ = sojourn("eval", "r", "--tasks", "2", "--greedy", "--json", "numbers.json")
    page = json.loads(Path("numbers.json").read_text())
    assert code == 0
    assert page["checkpoint"] == "step-000002"
    assert [(row["level"], row["mode"], row["tasks"]) for row in page["rows"]] == [("default", "greedy", 1)], (
        "it has one held-out task"
    )
    assert {path: path.stat().st_mtime_ns for path in Path("r").rglob("*")} == files

    assert sojourn("report", "r")[0] == 0


def test_a_model_is_measured_on_the_tasks_of_a_recipe(sojourn, mine: Path, tiny_model: str) -> None:
    code, out, _ = sojourn("eval", tiny_model, "--recipe", "area/mine", "--tasks", "1")
    assert code == 0
    assert "n = 1" in out
    code, _, err = sojourn("eval", tiny_model)
    assert code == 2
    assert "--recipe NAME" in err


def test_a_recipe_may_be_a_file(sojourn, mine: Path) -> None:
    assert recipes.load(str(mine)).config().letter == "a"


def test_an_own_recipe_hides_the_shipped_one_of_its_name(here: Path) -> None:
    shipped = recipes.find("quickstart")
    own = here / "recipes" / "quickstart.py"
    own.parent.mkdir()
    own.write_text(RECIPE)
    assert shipped.resolve() != own
    assert recipes.find("quickstart").resolve() == own


def test_an_unknown_recipe_suggests_the_nearest_and_lists_all(sojourn) -> None:
    code, _, err = sojourn("train", "quickstrat")
    assert code == 2
    assert "did you mean 'quickstart'?" in err
    assert "Recipes: agent, cartpole, data, frozen_lake, multi_agent/kuhn, " in err


def test_an_unknown_field_suggests_the_nearest(sojourn, mine: Path) -> None:
    code, out, err = sojourn("train", "area/mine", "--run", "r", "--optimizer.learning-rat", "1")
    assert code == 2
    assert "--optimizer.learning-rate" in out + err
    assert not Path("r").exists()


def test_a_file_that_is_no_recipe_is_told_what_it_lacks(sojourn, here: Path) -> None:
    (here / "empty.py").write_text("")
    code, _, err = sojourn("train", "empty.py")
    assert code == 2
    assert "needs a frozen dataclass `Config(TrainConfig)`" in err


def test_a_model_that_does_not_exist_costs_nothing(
    sojourn, mine: Path, few_steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = sojourn("train", "area/mine", *few_steps, "--run", "r", "--model", "no-such/model")
    assert code == 2
    assert "no model 'no-such/model'" in err
    code, _, _ = sojourn("train", "area/mine", *few_steps, "--run", "r")
    assert code == 0


def test_a_run_folder_of_another_config_is_refused_with_the_difference(sojourn, mine: Path, few_steps: list[str]) -> None:
    sojourn("train", "area/mine", *few_steps, "--run", "r")
    code, _, err = sojourn("train", "area/mine", *few_steps, "--run", "r", "--letter", "b")
    assert code == 2
    assert 'letter: was "a", now "b"' in err


def test_broken_episodes_are_in_no_rate() -> None:
    task, tree = Task("t", level="easy"), TrajectoryTree()
    broken = Episode("b", task, tree, failures=[Failure(FailureKind.INFRASTRUCTURE, "x", "y")])
    solved = Episode("s", task, tree, reward={"r": 1.0})
    (row,) = level_rows([EpisodeGroup("0", task, tree, [broken]), EpisodeGroup("1", task, tree, [solved])], "sampled")
    assert (row["success"], row["tasks"]) == (1.0, 1)


def test_a_rate_is_told_with_its_interval() -> None:
    # Wilson's interval of 1 in 2: (1/2 +- 1.96 sqrt(1/8 + 1.96^2 / 16)) / (1 + 1.96^2 / 2), with the middle at 1/2
    assert rate({"success": 0.5, "tasks": 2}) == "50.0 % (9 to 91, n = 2)"
