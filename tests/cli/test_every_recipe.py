"""Every recipe trains for two steps with a tiny model."""

import re
from pathlib import Path

import pytest

from sojourn.cli import recipe as recipes
from sojourn.cli.arms import declared

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted(path for path in (REPOSITORY / "recipes").rglob("*.py") if recipes._is_recipe(path))


AGENT = """
from openai import OpenAI


def agent(seat):
    client = OpenAI(base_url=seat.base_url, api_key=seat.api_key)
    return client.chat.completions.create(model=seat.model, messages=seat.messages).choices[0].message.content


def short(completions, **kwargs):
    return [-len(text) / 10 for text in completions]
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_trains(sojourn, few_steps: list[str], path: Path) -> None:
    needs = []
    if path.stem == "data":
        Path("rows.jsonl").write_text('{"prompt": "The sky is", "completion": " blue."}\n')
        needs = ["--data", "rows.jsonl", "--eval-tasks", "0"]
    if path.stem == "agent":
        Path("rows.jsonl").write_text('{"prompt": "Say hi."}\n{"prompt": "Say ho."}\n')
        Path("mine.py").write_text(AGENT)
        needs = ["--agent", "mine.py:agent", "--data", "rows.jsonl", "--reward", "mine.py:short", "--eval-tasks", "0"]
    code, _, err = sojourn("train", str(path), *few_steps, *needs, "--run", "run")
    if code and (lacking := re.search(r"pip install 'sojourn\[.*", err)):
        pytest.skip(lacking[0])
    assert code == 0, err
    assert Path("run/summary.json").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is(path: Path) -> None:
    assert recipes.summary(path).endswith(".")


WITH_ARMS = [path for path in SHIPPED if "\nARMS" in path.read_text()]


@pytest.mark.parametrize("path", WITH_ARMS, ids=lambda path: path.stem)
def test_every_arm_is_a_run_that_can_be_made(path: Path, here: Path) -> None:
    """Fields and values are right, parts are made; claims look at arms that there are."""
    found = declared(recipes.load(str(path)))
    for arm in found.arms:
        assert found.recipe.parts(found.config(here, arm, 0))
    looked = []
    for claim in found.claims.values():
        claim.value(lambda arm, figure: looked.append(arm) or 1.0)
    assert set(looked) <= set(found.arms)


SCALED = [
    (path, name) for path in SHIPPED if "\nSCALES" in path.read_text() for name in vars(recipes.load(str(path)).module)["SCALES"]
]


@pytest.mark.parametrize(("path", "scale"), SCALED, ids=lambda each: getattr(each, "stem", each))
def test_every_scale_is_a_plan_that_holds(sojourn, path: Path, scale: str) -> None:
    code, out, err = sojourn("train", str(path), "--scale", scale, "--dry-run")
    if code and (lacking := re.search(r"pip install 'sojourn\[.*", err)):
        pytest.skip(lacking[0])
    assert code == 0, err
    assert "memory:" in out
