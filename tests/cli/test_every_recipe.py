"""Every recipe trains for two steps with a tiny model."""

import re
from pathlib import Path

import pytest

from sojourn.cli import recipe as recipes

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted(path for path in (REPOSITORY / "recipes").rglob("*.py") if recipes._is_recipe(path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_trains(sojourn, few_steps: list[str], path: Path) -> None:
    needs = []
    if path.stem == "data":
        Path("rows.jsonl").write_text('{"prompt": "The sky is", "completion": " blue."}\n')
        needs = ["--data", "rows.jsonl", "--eval-tasks", "0"]
    code, _, err = sojourn("train", str(path), *few_steps, *needs, "--run", "run")
    if code and (lacking := re.search(r"pip install 'sojourn\[.*", err)):
        pytest.skip(lacking[0])
    assert code == 0, err
    assert Path("run/summary.json").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is(path: Path) -> None:
    assert recipes.summary(path).endswith(".")
