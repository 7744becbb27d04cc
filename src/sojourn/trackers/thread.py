"""A tracker in a thread of its own: what it does late, or not at all, the run does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue

from sojourn.trackers.tracker import Tracker

CLOSE_SECONDS = 60.0
"""That a tracker may take to send what is left when the run has ended."""
MOST_FAILURES = 3
"""In a row; then the tracker is left alone."""


class Tracked:
    """A `Tracker` whose calls return at once.  tell: hears of its first failure, and of its end."""

    def __init__(self, name: str, tracker: Tracker, tell: Callable[[str], None]) -> None:
        self.name, self._tracker, self._tell = name, tracker, tell
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        kept = dict(values)
        self._work.put(lambda: self._tracker.log(step, kept))

    def artifact(self, path: Path, name: str) -> None:
        self._work.put(lambda: self._tracker.artifact(path, name))

    def close(self) -> None:
        """Wait for what is left, but not for ever."""
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._tell(f"tracker '{self.name}' has not sent everything after {CLOSE_SECONDS:g} s; the run folder has it all")

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if self._failures < MOST_FAILURES:
                self._try(work)
        self._try(self._tracker.close)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._failures += 1
            if self._failures == 1:
                self._tell(
                    f"tracker '{self.name}' failed, and the run goes on (the run folder has all numbers): {type(error).__name__}: {error}"
                )
            elif self._failures == MOST_FAILURES:
                self._tell(f"tracker '{self.name}' failed {MOST_FAILURES} times and gets no more numbers")
        else:
            self._failures = 0
