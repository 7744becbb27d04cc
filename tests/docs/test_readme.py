"""The README's program runs exactly as it is printed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sojourn
from sojourn import Experiment, TrainConfig
from sojourn.training import train

README = Path(__file__).parents[2] / "README.md"


def program() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return block


def test_the_program_of_the_readme_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[TrainConfig] = []

    def small(config: TrainConfig, experiment: Experiment) -> dict[str, Any]:
        asked.append(config)
        return train(replace(config, steps=1, groups=2, group_size=2, eval_tasks=2), experiment)

    tiny = sojourn.models.tiny(hidden=32, layers=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sojourn.training.setup.load", lambda name: tiny)
    monkeypatch.setattr("sojourn.train", small, raising=False)
    exec(compile(program(), "README.md", "exec"), {"__name__": "__main__"})
    assert asked[0].model == "smollm2-135m"
    assert (tmp_path / "runs/higher-lower/report.html").exists()
    assert capsys.readouterr().out.splitlines()[-1] == "{'default': 0.0} {'default': 0.0}"


def test_the_program_of_the_readme_is_short() -> None:
    assert len([line for line in program().splitlines() if line.strip()]) <= 30


def test_the_readme_opens_with_the_two_commands_and_the_curve() -> None:
    text = README.read_text()
    assert text.index("make quickstart") < text.index("make test") < text.index("learning_curve.svg") < text.index("```python")
