"""What tests of the gateway share: a tiny model on disk, and one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("starlette", reason="pip install 'sojourn[serve]'")
pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
