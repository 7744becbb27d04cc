"""What a run ran on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sojourn.store.machine import physical_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not bind processes to cores")
def test_two_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"cpu{number}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}/topology/thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    for usable, cores in (({0, 2}, 1), ({0, 1}, 2), ({0, 1, 2, 3}, 2), ({3, 7, 8}, 3)):  # of 7 and 8 nothing is known
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, usable=usable: usable)
        assert physical_cores(tmp_path) == cores
