"""`sojourn export RUN DIR`: the policy of a run as a directory that others open."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional


def export(run: Positional[str], folder: Positional[Path], merge: bool = False, role: str = "") -> None:
    """Write the policy of a run's last checkpoint for transformers and peft, and check that it says the same.

    Args:
        run: A run folder.
        folder: Where to write; a new or empty folder.
        merge: Of a run with adapters, write whole weights with the adapters merged instead of the adapters alone.
        role: Of a run with several roles, whose policy; NAME@STEP for a former self.  The first that learns if nothing is said.
    """
    from sojourn.training.export import export as write

    print(f"written and read again: {write(run, folder, merge=merge, role=role)}")
