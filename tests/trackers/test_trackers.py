"""Trackers with the real packages, on this machine: what arrives is what was logged; what fails costs the run nothing."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from small_run import config, experiment

from sojourn.store import RunFolder
from sojourn.trackers import Start, Tracked, check, open_all, split
from sojourn.training import train


def offline(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)  # MLflow keeps what it is given in ./mlruns, wherever its database is
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "trackio"))
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)


def logged(run: Path, name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in RunFolder(run).metrics()]


def in_mlflow(folder: Path) -> Any:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("sojourn").experiment_id])
    return client, run


def test_mlflow_has_what_the_run_folder_has_and_goes_on_with_the_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    offline(monkeypatch, tmp_path)
    for steps in (1, 3):
        train(config(tmp_path / "run", model, steps=steps, eval_tasks=1, eval_every=0, track="mlflow"), experiment())
    client, run = in_mlflow(tmp_path)
    history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "reward")]
    assert history == logged(tmp_path / "run", "reward") and len(history) == 3
    assert run.data.params["optimizer.learning_rate"] == "2e-05"
    assert run.info.status == "FINISHED" and "eval/sampled/default" in run.data.metrics
    assert [each.path for each in client.list_artifacts(run.info.run_id, "report")] == ["report/report.html"]


def test_wandb_has_what_the_run_folder_has(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as pb

    offline(monkeypatch, tmp_path)
    train(config(tmp_path / "run", model, steps=2, eval_tasks=0, track="wandb"), experiment())
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    found = []
    for data in records(file.read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or ".".join(item.nested_key): float(item.value_json) for item in record.history.item if _number(item)}
            found.append((int(row["step"]), row["reward"]))
    assert found == logged(tmp_path / "run", "reward") and len(found) == 2


def records(data: bytes, block: int = 32768, head: int = 7) -> Iterator[bytes]:
    """The records of a file of W&B, which is a log of LevelDB with a header: pieces of checksum, length, kind and bytes."""
    at, whole = head, b""
    while at + head <= len(data):
        if block - at % block < head:  # no piece begins in the last bytes of a block
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""


def _number(item: Any) -> bool:
    return item.value_json[:1].isdigit() or item.value_json[:1] == "-"


def test_trackio_has_what_the_run_folder_has(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    offline(monkeypatch, tmp_path)
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    train(config(tmp_path / "run", model, steps=2, eval_tasks=0, track="trackio"), experiment())
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    run = trackio.Api().runs("sojourn")[0]
    rows = SQLiteStorage.get_logs("sojourn", run.name)
    assert [(row["step"], row["reward"]) for row in rows if "reward" in row] == logged(tmp_path / "run", "reward")


def test_several_at_once(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "wandb", "sqlalchemy"):
        pytest.importorskip(name)
    offline(monkeypatch, tmp_path)
    train(config(tmp_path / "run", model, steps=1, eval_tasks=0, track="wandb,mlflow"), experiment())
    assert in_mlflow(tmp_path)[1].data.metrics["reward"] == logged(tmp_path / "run", "reward")[0][1]
    assert len([*(tmp_path / "run").glob("wandb/offline-run-*")]) == 1 and [*(tmp_path / "run").glob("tensorboard/*")]


def test_a_tracker_without_a_login_is_named_before_anything_is_trained(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"tracker 'wandb' has no login .*WANDB_MODE=offline"):
        train(config(tmp_path / "run", model, track="wandb"), experiment())
    assert not (tmp_path / "run").exists()


def test_a_space_without_a_login_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ValueError, match="tracker 'trackio' has no login for its space"):
        check(["trackio"])


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with pytest.raises(ValueError, match=r"tracker 'mlflow' does not answer at http://127.0.0.1:9"):
            check(["mlflow"])
    finally:
        mlflow.set_tracking_uri(None)


def test_an_unknown_tracker_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"there is no tracker 'wandbb'; did you mean 'wandb'\?"):
        split("mlflow,wandbb")


def test_a_tracker_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.trackers.tracker.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'sojourn\[wandb\]'"):
        check(["wandb"])


class Failing:
    """A tracker that fails from its second call on."""

    def __init__(self) -> None:
        self.calls = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("the server is gone")

    def artifact(self, path: Path, name: str) -> None:
        raise ConnectionError("the server is gone")

    def close(self) -> None:
        raise ConnectionError("the server is gone")


def test_a_tracker_that_fails_in_the_middle_of_a_run_does_not_stop_it(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Failing()
    monkeypatch.setattr("sojourn.training.loop.trackers.check", lambda names: None)
    monkeypatch.setattr("sojourn.training.loop.trackers.open_all", lambda names, start, known: {"wandb": (tracker, "id")})
    summary = train(config(tmp_path, model, steps=5, eval_tasks=0, track="wandb"), experiment())
    assert summary["steps"] == 5 and len(RunFolder(tmp_path).metrics()) == 5
    assert tracker.calls == 4, "after three failures it is left alone"
    said = capsys.readouterr().out
    assert said.count("tracker 'wandb' failed, and the run goes on") == 1 and "the server is gone" in said


def test_a_slow_tracker_holds_nobody_up_and_loses_nothing() -> None:
    let_go, got = threading.Event(), []

    class Slow(Failing):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            let_go.wait(60)
            got.append(step)

        def close(self) -> None: ...

    tracked = Tracked("slow", Slow(), print)
    for step in range(3):
        tracked.log(step, {"reward": 1.0})
    assert got == []
    let_go.set()
    tracked.close()
    assert got == [0, 1, 2]


def test_what_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(start: Start) -> Any:
        raise RuntimeError("no room")

    monkeypatch.setattr("sojourn.trackers.tensorboard_.open", broken)
    with pytest.raises(ValueError, match="tracker 'tensorboard' cannot be opened: RuntimeError: no room"):
        open_all(["tensorboard"], Start(run=tmp_path, config={}), {})
