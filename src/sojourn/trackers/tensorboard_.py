"""TensorBoard, in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sojourn.trackers.tracker import Start


def check() -> None:
    """It needs nothing but its package."""


def open(start: Start) -> tuple[TensorBoard, str]:
    return TensorBoard(start.run / "tensorboard", start.step + 1), "tensorboard"


class TensorBoard:
    """Events of `step` and later, by a run that was killed, are hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def artifact(self, path: Path, name: str) -> None:
        """It keeps none; they are in the run folder."""

    def close(self) -> None:
        self._writer.close()
