"""`sojourn view [RUNS...]`: the runs as pages in the browser, while they are written."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from tyro.conf import Positional


def view(runs: Positional[tuple[Path, ...]] = (), port: int = 8321, browser: bool = True) -> None:
    """Show runs in the browser: curves, episodes, health.  Ends with Ctrl-C.

    Args:
        runs: Run folders, or folders that hold some; none is `runs`.
        port: Of this machine's loopback; 0 takes a free one.
        browser: Open a browser, too.
    """
    from sojourn.viewer.server import serve

    def ready(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if browser:
            webbrowser.open(address)

    serve(runs or (Path("runs"),), port, ready)
