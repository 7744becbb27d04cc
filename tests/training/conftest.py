"""What tests of training share: a tiny model as a local directory, and one thread, so that runs are equal to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a local directory."""
    folder = tmp_path_factory.mktemp("model")
    loaded = small()
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
