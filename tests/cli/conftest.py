"""A tiny model in a directory, and a place of its own for each test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import saved

from sojourn import models
from sojourn.cli import main


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model as a user names one: a directory."""
    return str(saved(models.tiny(hidden=32, layers=1), tmp_path_factory.mktemp("model")))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; wide terminal, no colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SOJOURN_TRACEBACK", raising=False)
    return tmp_path


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sojourn(here: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command: its exit code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as leave:  # tyro leaves this way
            code = int(leave.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def few_steps(tiny_model: str) -> list[str]:
    """Options that make a run of any recipe take a second or two."""
    sizes = {"steps": 2, "groups": 2, "group-size": 2, "eval-tasks": 1, "max-context": 2048, "max-tokens": 8, "max-turns": 2}
    return ["--model", tiny_model, *(word for name, value in sizes.items() for word in (f"--{name}", str(value)))]
