"""Where the time goes: phases add up, a trace has no overlaps in a track, and nothing is recorded unless asked."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import config, experiment

from sojourn.phases import Event, breakdown, phase, recording, trace
from sojourn.store import RunFolder
from sojourn.training import train

gaps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from(["decode", "forward"])), max_size=6)
spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=6)


def events_of(model: list[tuple[int, int, str]], tools: list[tuple[int, int]]) -> list[Event]:
    """The model's phases one after another, tools anywhere."""
    at, events = 0, []
    for gap, length, name in model:
        events.append(Event(name, at + gap, at + gap + length))
        at += gap + length
    return events + [Event("tools", start, start + length) for start, length in tools]


@given(gaps, spans)
def test_every_moment_is_counted_once(model: list[tuple[int, int, str]], tools: list[tuple[int, int]]) -> None:
    events = events_of(model, tools)
    moments = dict.fromkeys(range(100), "idle")
    for name, start, end in sorted(events, key=lambda event: event.name != "tools"):  # the model's phases win
        moments |= dict.fromkeys(range(int(start), int(end)), name)
    expected: dict[str, int] = defaultdict(int)
    for name in moments.values():
        expected[name] += 1
    assert {name: seconds for name, seconds in breakdown(events, 0, 100).items() if seconds} == expected


@given(gaps, spans)
def test_a_track_never_overlaps_itself(model: list[tuple[int, int, str]], tools: list[tuple[int, int]]) -> None:
    rows = [row for row in trace(events_of(model, tools))["traceEvents"] if row["ph"] == "X"]
    assert len(rows) == len(model) + len(tools)
    by_track = defaultdict(list)
    for row in rows:
        by_track[row["tid"]].append((row["ts"], row["ts"] + row["dur"]))
    for track in by_track.values():
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(track))


def test_nothing_is_recorded_unless_asked() -> None:
    with recording() as events, phase("a"):
        pass
    with phase("b"):
        pass
    assert [event.name for event in events] == ["a"]


def test_a_profiled_run_has_a_breakdown_and_traces(tmp_path: Path, model: Path) -> None:
    train(config(tmp_path / "run", model, steps=2, profile=True), experiment())
    for row in RunFolder(tmp_path / "run").metrics():
        seconds = {key.split("/")[1]: value for key, value in row.items() if key.startswith("seconds/")}
        assert set(seconds) == {"prefill", "decode", "tools", "packing", "forward", "backward", "optimizer", "idle"}
        page = json.loads((tmp_path / "run" / "traces" / f"step-{row['step']:06}.json").read_text())
        decoded = sum(event["dur"] for event in page["traceEvents"] if event["name"] == "decode") / 1e6
        assert decoded == pytest.approx(seconds["decode"])
