"""trackio: W&B's calls, kept on this machine or in a Hugging Face space.  TRACKIO_PROJECT, TRACKIO_SPACE_ID, TRACKIO_DIR."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sojourn.trackers.tracker import Start


def check() -> None:
    """A space needs a login; what is kept here needs none."""
    if not os.environ.get("TRACKIO_SPACE_ID"):
        return
    from huggingface_hub import get_token

    if not get_token():
        raise ValueError(
            "tracker 'trackio' has no login for its space: run `hf auth login`, set HF_TOKEN, or unset TRACKIO_SPACE_ID to keep it here"
        )


def open(start: Start) -> tuple[Trackio, str]:
    import trackio

    name = start.known or start.run.name
    run = trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", start.project),
        name=name,
        resume="allow" if start.known else "never",
        config=dict(start.config),
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    return Trackio(run), run.name


class Trackio:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def artifact(self, path: Path, name: str) -> None:
        """Its artifacts live in a space; a run that is kept here has them in its run folder."""
        if os.environ.get("TRACKIO_SPACE_ID"):
            self._run.log_artifact(str(path), name=name)

    def close(self) -> None:
        self._run.finish()
