"""A recipe is a module of its own, with what lies beside it; what is wrong with one is told in a sentence; a run keeps all its code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sojourn.cli import recipe as recipes
from sojourn.store import RunFolder, query
from sojourn.store.code import kept_code

RECIPE = '''"""A recipe of two files."""
from __future__ import annotations
from dataclasses import dataclass
from sojourn import Experiment, PlainText, TrainConfig, Uniform, from_function
from helper import LETTER, right

@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    letter: str = LETTER
    """What is rewarded."""

def experiment(config: Config) -> Experiment:
    world = from_function(lambda p, c: right(config.letter, c), ["one", "two"], test=["three"])
    return Experiment(environment=world.make, tasks=world.tasks, protocol=PlainText(), curriculum=Uniform(world.tasks))
'''
HELPER = """LETTER = "a"


def right(letter: str, said: str) -> float:
    import later
    return later.weight * (letter in said)
"""

Run = Callable[..., tuple[int, str, str]]


def written(folder: Path, **helper: str) -> str:
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(RECIPE)
    (folder / "helper.py").write_text(helper.get("helper", HELPER))
    (folder / "later.py").write_text("weight = 1.0\n")
    return str(folder / "mine.py")


def test_recipes_of_one_stem_in_two_folders_are_two(here: Path) -> None:
    first = recipes.load(written(here / "a"))
    second = recipes.load(written(here / "b", helper=HELPER.replace('"a"', '"b"')))
    assert (first.config().letter, second.config().letter) == ("a", "b")
    assert first.config.__module__ != second.config.__module__


def test_a_recipe_is_no_module_that_others_import_by_its_stem(here: Path) -> None:
    """A recipe named after the library that it uses must not hide it."""
    folder = here / "recipes"
    folder.mkdir()
    text = RECIPE.replace("from helper import LETTER, right", "from colorsys import rgb_to_hsv as LETTER")
    (folder / "colorsys.py").write_text(text)
    assert callable(recipes.load("colorsys").config.letter)  # type: ignore[attr-defined]


BROKEN = {
    "def experiment(:": r"broken\.py cannot be loaded: invalid syntax \(.*broken\.py, line 1\)",
    "import no_such_thing": r"ModuleNotFoundError: No module named 'no_such_thing' \(.*broken\.py, line 1\)",
    "x = 1\ny = x / 0": r"ZeroDivisionError: division by zero \(.*broken\.py, line 2\)",
    "Config, experiment = int, print": r"needs a frozen dataclass `Config\(TrainConfig\)`",
    "from sojourn import TrainConfig\nclass Config(TrainConfig): x: int = 1\ndef experiment(config): ...": "no dataclass of its own",
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.items(), ids=lambda each: each[:20])
def test_a_recipe_that_cannot_be_loaded_is_told_in_a_sentence(here: Path, text: str, expected: str) -> None:
    (here / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=expected):
        recipes.load("broken.py")


def test_a_broken_recipe_does_not_hide_the_others(sojourn: Run, here: Path) -> None:
    (here / "recipes").mkdir()
    (here / "recipes/broken.py").write_text("def experiment(:")
    code, out, _ = sojourn("recipes")
    assert code == 0
    assert "quickstart" in out
    assert "cannot be read: invalid syntax, line 1" in out


@pytest.mark.parametrize(
    ("made", "expected"), [("None", "returned None"), ("(1, 2)", "returned a tuple, expected an Experiment")]
)
def test_a_recipe_that_makes_something_else_is_told(sojourn: Run, here: Path, made: str, expected: str) -> None:
    text = "from dataclasses import dataclass\nfrom sojourn import TrainConfig\n\n@dataclass(frozen=True)\nclass Config(TrainConfig): ...\n"
    (here / "mine.py").write_text(f"{text}\ndef experiment(config):\n    return {made}\n")
    code, _, err = sojourn("train", "mine.py", "--run", "r")
    assert code == 2
    assert f"error: recipe mine.py: experiment(config) {expected}" in err
    assert not Path("r").exists()


def test_a_run_keeps_all_its_code_says_what_changed_and_is_measured_with_the_copies(
    sojourn: Run, here: Path, few_steps: list[str]
) -> None:
    path = written(here / "mine")
    start = ["train", path, *few_steps, "--run", "r", "--checkpoint-every", "1"]
    assert sojourn(*start)[0] == 0
    kept = Path("r/code/step-000000")
    assert sorted(file.name for file in kept.iterdir()) == ["helper.py", "later.py", "recipe.py"]
    assert kept_code(Path("r")) == kept
    assert "changed since" not in sojourn(*start)[1]

    (here / "mine/helper.py").write_text(HELPER.replace('"a"', '"b"'))
    (here / "mine/later.py").write_text("import more\nweight = 2.0\n")
    (here / "mine/more.py").write_text("")
    code, out, _ = sojourn(*start, "--letter", "a")
    assert code == 0
    changes = ["helper.py was edited", "later.py was edited", "more.py is new"]
    assert [line for line in out.splitlines() if "changed since" in line] == [
        f"changed since the last start: {c}" for c in changes
    ]
    assert [row["changes"] for row in RunFolder("r").starts()] == [[], [], changes]
    assert set(RunFolder("r").starts()[-1]["code"]) == {"helper.py", "later.py", "more.py", "recipe.py"}
    assert (kept / "helper.py").read_text() == HELPER, "what the first steps were made with is still there"
    assert kept_code(Path("r")) == Path("r/code/step-000002")

    (here / "mine/helper.py").write_text("raise RuntimeError('the copies are used')")
    assert sojourn("eval", "r", "--tasks", "1")[0] == 0


def test_an_evaluation_takes_fields_and_keeps_episodes_where_it_is_told(
    sojourn: Run, here: Path, few_steps: list[str], tiny_model: str
) -> None:
    path = written(here / "mine")
    assert sojourn("train", path, *few_steps, "--run", "r")[0] == 0
    before = {file: file.stat().st_mtime_ns for file in Path("r").rglob("*")}
    code, out, err = sojourn("eval", "r", "--tasks", "1", "--max-tokens", "3", "--letter", "z", "--out", "e", "--json", "n.json")
    assert code == 0, err
    assert json.loads(Path("e/config.json").read_text())["max_tokens"] == 3
    assert json.loads(Path("e/config.json").read_text())["letter"] == "z"
    assert json.loads(Path("e/eval.json").read_text()) == json.loads(Path("n.json").read_text())
    (row,) = query("e", "select phase, level from episodes")
    assert (row["phase"], row["level"]) == ("eval-now-sampled", "default")
    assert {file: file.stat().st_mtime_ns for file in Path("r").rglob("*")} == before
    code, _, err = sojourn("eval", "r", "--tasks", "0")
    assert code == 2
    assert "at least 1" in err
    code, out, err = sojourn("eval", "r", "--max-token", "3")
    assert code == 2
    assert "--max-tokens" in out + err
    assert sojourn("eval", "r", "--tasks", "1", "--out", "r")[0] == 2
    code, _, err = sojourn("eval", tiny_model, "--recipe", path, "--tasks", "1", "--temperature", "0.5")
    assert code == 0, err


def test_a_run_is_a_model(sojourn: Run, here: Path, few_steps: list[str]) -> None:
    path = written(here / "mine")
    assert sojourn("train", path, *few_steps, "--run", "r", "--lora-rank", "2")[0] == 0
    code, _, err = sojourn("train", path, *few_steps, "--model", "r", "--run", "s", "--no-eval-before")
    assert code == 0, err
    assert {row["eval"] for row in RunFolder("s").evals()} == {"after"}
    assert RunFolder("s").starts()[0]["model"] == "r, step-000002"
    code, out, _ = sojourn("eval", "r", "--tasks", "1")
    assert code == 0
    assert "r, step-000002, tasks of" in out
    code, _, err = sojourn("train", path, *few_steps, "--model", "s", "--run", "s")
    assert code == 2


def test_a_world_without_held_out_tasks_is_told_before_a_model_is_loaded(sojourn: Run, here: Path) -> None:
    path = Path(written(here / "mine"))
    path.write_text(RECIPE.replace(', test=["three"]', ""))
    code, _, err = sojourn("train", str(path), "--model", "no-such/model", "--run", "r")
    assert code == 2
    assert "set eval_tasks=0" in err
    assert "no model" not in err


def test_one_environment_for_all_episodes_is_told_before_a_model_is_loaded(sojourn: Run, here: Path) -> None:
    path = Path(written(here / "mine"))
    path.write_text(RECIPE.replace("environment=world.make", "environment=lambda one=world.make(): one"))
    code, _, err = sojourn("train", str(path), "--model", "no-such/model", "--run", "r")
    assert code == 2
    assert "the same FunctionEnvironment twice" in err
