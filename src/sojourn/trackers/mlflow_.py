"""MLflow.  MLFLOW_TRACKING_URI says where, by default `mlflow.db` here; MLFLOW_EXPERIMENT_NAME in which experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sojourn.store.run import flatten
from sojourn.trackers.tracker import Start

LONGEST = 500
"""Characters of a parameter's value that every backend takes."""


def check() -> None:
    """One question, which a server that is not there, or that wants a login, does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        _client().search_experiments(max_results=1)
    except Exception as error:
        import mlflow

        raise ValueError(
            f"tracker 'mlflow' does not answer at {mlflow.get_tracking_uri()} ({type(error).__name__}: {error}): set MLFLOW_TRACKING_URI, and "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, if it wants a login"
        ) from error


def open(start: Start) -> tuple[Mlflow, str]:
    client, name = _client(), os.environ.get("MLFLOW_EXPERIMENT_NAME", start.project)
    if start.known is not None:
        client.update_run(start.known, status="RUNNING")
        return Mlflow(client, start.known), start.known
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    run = client.create_run(experiment, run_name=start.run.name).info.run_id
    for key, value in flatten(start.config).items():
        client.log_param(run, key, str(value)[:LONGEST])
    return Mlflow(client, run), run


class Mlflow:
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(_named(name), value, 0, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics, synchronous=True)

    def artifact(self, path: Path, name: str) -> None:
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self._run, str(path), artifact_path=name)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def _client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def _named(name: str) -> str:
    """A name as MLflow takes it: letters, digits, and some signs.

    >>> _named("tries/pass@4")
    'tries/pass_at_4'
    """
    kept = name.replace("@", "_at_").replace("^", "_all_")
    return "".join(c if c.isalnum() or c in "_-. /:" else "_" for c in kept)
