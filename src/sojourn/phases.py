"""Where the time goes: phases of a step, recorded only while somebody wants to know.

    with recording() as events:      # the trainer, with --profile
        ...
            with phase("decode"):    # engine, session, learner
                ...
    breakdown(events, began, ended)  # seconds of each phase, and what was idle

Phases of the model run one after another; tools run beside them.  So a moment belongs to a phase of the model if there is one, else to
the tools, else it is idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

BESIDE = "tools"
"""The phase that runs beside the others."""
PHASES = ("prefill", "decode", BESIDE, "packing", "forward", "backward", "optimizer")
"""All phases of a step; of those that did not happen a breakdown says 0."""


class Event(NamedTuple):
    """A phase from `start` to `end`, in seconds of `time.perf_counter`."""

    name: str
    start: float
    end: float


_events: list[Event] | None = None


@contextmanager
def recording() -> Iterator[list[Event]]:
    """Record the phases in here."""
    global _events
    previous, _events = _events, []
    try:
        yield _events
    finally:
        _events = previous


@contextmanager
def phase(name: str) -> Iterator[None]:
    """What happens in here is `name`."""
    events = _events
    if events is None:
        yield
        return
    start = perf_counter()
    try:
        yield
    finally:
        events.append(Event(name, start, perf_counter()))


def breakdown(events: Sequence[Event], start: float, end: float) -> dict[str, float]:
    """Seconds of each phase between `start` and `end`, and `idle`; they add up.

    >>> found = breakdown([Event("tools", 1.0, 4.0), Event("decode", 2.0, 3.0)], 0.0, 5.0)
    >>> found["decode"], found["tools"], found["backward"], found["idle"]
    (1.0, 2.0, 0.0, 2.0)
    """
    seconds = dict.fromkeys(PHASES, 0.0)
    for event in events:
        if event.name != BESIDE:
            seconds[event.name] = seconds.get(event.name, 0.0) + event.end - event.start
    busy = _covered(events)
    seconds[BESIDE] = busy - sum(seconds.values())
    return seconds | {"idle": end - start - busy}


def _covered(events: Sequence[Event]) -> float:
    """Length of the union of all events."""
    total, reached = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        total += max(0, event.end - max(event.start, reached))
        reached = max(reached, event.end)
    return total


def trace(events: Sequence[Event]) -> dict[str, object]:
    """The JSON of a trace that ui.perfetto.dev opens: the model's phases in one track, tools in others, none of which overlaps itself.
    [Trace Event Format]"""
    tracks: list[float] = [float("-inf")]
    rows = []
    for event in sorted(events, key=lambda event: event.start):
        track = 0
        if event.name == BESIDE:
            track = next((n for n, free in enumerate(tracks) if n and free <= event.start), len(tracks))
            if track == len(tracks):
                tracks.append(event.end)
            tracks[track] = event.end
        rows.append(
            {
                "name": event.name,
                "ph": "X",
                "pid": 0,
                "tid": track,
                "ts": event.start * 1e6,
                "dur": (event.end - event.start) * 1e6,
            }
        )
    names = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": n, "args": {"name": f"{BESIDE} {n}" if n else "model"}}
        for n in range(len(tracks))
    ]
    return {"traceEvents": names + rows}
