"""One writer for a run folder.

The operating system holds the lock and frees it when its process ends, however that ends; a file beside it says who the holder is.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sojourn.store.files import read_rows, write_rows


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes into `folder`; one that is may enter again.

    Raises `ValueError` at once, with the holder's process, host and start, if another one is.
    """
    lock, writer = FileLock(folder / ".lock", timeout=0, is_singleton=True), folder / ".writer.json"
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(_busy(folder, read_rows(writer))) from None
    try:
        if lock.lock_counter == 1:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_rows(writer, [{"pid": os.getpid(), "host": socket.gethostname(), "since": now}])
        yield
    finally:
        lock.release()


def _busy(folder: Path, holders: list[dict[str, object]]) -> str:
    """A holder may have the lock and not have said so yet."""
    known = {"pid": "?", "host": "?", "since": "just now"} | (holders[-1] if holders else {})
    who = "process {pid} on {host} has been writing into it since {since}".format(**known)
    return f"run folder {folder}: {who} (wait until it has ended, stop it, or choose another run folder)"
