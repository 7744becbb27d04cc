"""Runs to look at."""

from __future__ import annotations

import pytest
from example_run import write_example_run
from viewed import write_special_run

from sojourn.store import RunFolder


@pytest.fixture(scope="session")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Read-only: tests that change a run folder make their own."""
    return write_example_run(tmp_path_factory.mktemp("runs") / "example")


@pytest.fixture(scope="session")
def special_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Read-only: an episode of each kind that is no plain conversation."""
    return write_special_run(tmp_path_factory.mktemp("special") / "special")
