"""`sojourn bench NAME`: measure, print the table, write JSON."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg


def bench(
    name: Positional[Literal["decode", "rollout", "update", "step", "scale", "small"]],
    quick: bool = False,
    write_json: Annotated[str, arg(name="json")] = "",
) -> int:
    """Measure one thing on this machine.  Keep its cores free meanwhile.

    Args:
        name: What to measure.
        quick: Fewer and smaller cases, under five minutes.
        write_json: Write the result into this file, too, with the machine, the versions and the commit; row by row, as they come.
    """
    from sojourn.bench.measure import Result
    from sojourn.training.setup import use_machine

    use_machine()
    console = Console(width=None if sys.stdout.isatty() else 200)  # tables are as wide as they are, in a file too
    load = os.getloadavg()[0]
    if load > 0.5:
        console.print(f"[yellow]other programs are running here (load {load:.1f}): wait for them, or figures will be wrong")
    result = Result(name, file=Path(write_json) if write_json else None)
    getattr(import_module(f"sojourn.bench.{name}"), name)(result, quick)
    result.show(console)
    result.save()
    return 0
