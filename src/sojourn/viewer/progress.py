"""Live progress in a terminal; without one, a line a step in the log.

    with Progress(total_steps=60) as progress:
        with progress.phase("sample", total=64) as phase:
            phase.advance(episodes=1, tokens=212)
        progress.step({"step": 1, "reward": 0.4, "success/easy": 0.4})

The one idea: the same calls feed both; what a terminal redraws, a log gets as a line, and a phase that takes long gets a line now
and then, so that nobody takes a slow machine for a dead one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

HEARTBEAT_S = 30.0
"""A log without a terminal hears of a running phase this often."""
SHOWN = (
    ("reward", "reward", "{:.2f}"),
    ("tool_calls", "tool calls", "{:.1f}"),
    ("entropy", "entropy", "{:.2f}"),
    ("kl", "KL", "{:.4f}"),
    ("zero_signal", "zero signal", "{:.0%}"),
    ("cut", "cut", "{:.0%}"),
)
"""Metrics shown besides the success of each level: key, name, format."""


class Phase:
    """A phase in progress: what is done of how much, and how fast.  `total` None: nobody knows how much there is."""

    def __init__(self, name: str, total: int | None, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self.name = name
        self.total = total
        self.episodes = 0
        self.tokens = 0
        self._clock = clock
        self._changed = changed
        self._start = clock()

    def advance(self, episodes: int = 0, tokens: int = 0) -> None:
        """Note that so many more episodes are done and tokens sampled (or trained on)."""
        self.episodes += episodes
        self.tokens += tokens
        self._changed()

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None while that is unknown."""
        if not self.total or not self.episodes:
            return None
        return self.seconds / self.episodes * (self.total - self.episodes)

    def __str__(self) -> str:
        parts = [self.name]
        if self.episodes or self.total:
            parts.append(f"{self.episodes}/{self.total} episodes" if self.total else f"{self.episodes} episodes")
        if self.tokens:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        parts.append(duration(self.seconds))
        return ", ".join(parts)


class Progress:
    """Shows a run.  Use it as a context manager; `console` and `clock` are for tests and for embedding."""

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        title: str = "sojourn",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self.title = title
        self.done = start
        self.metrics: dict[str, Any] = {}
        self._console = console or Console()
        self._clock = clock
        self._begin = clock()
        self._stepped = self._spoke = self._begin
        self._step_seconds: deque[float] = deque(maxlen=8)
        self._phase: Phase | None = None
        live = self._console.is_terminal
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4) if live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """A phase of the run: `evaluate before`, `sample`, `train`.  `total`: how many episodes it will see.

        An evaluation does not count into the pace of steps, from which the time left is told.
        """
        self._phase = phase = Phase(name, total, self._clock, self._heartbeat)
        try:
            yield phase
        finally:
            self._phase = None
            if name.startswith("eval"):
                self._stepped += phase.seconds
                self._say(str(phase))

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A step is done; `metrics["step"]` is how many are."""
        now = self._clock()
        self._step_seconds.append(now - self._stepped)
        self._stepped = now
        self.done = int(metrics["step"])
        self.metrics = dict(metrics)
        self._say(f"step {self.done}/{self.total_steps} | {self.summary()} | {duration(self.seconds_left)} left")

    def log(self, text: str) -> None:
        """Say something that stays: a line in the log, or above the live display."""
        self._spoke = self._clock()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    @property
    def seconds_left(self) -> float | None:
        """For the steps that remain, at the pace of the last few; None before the first."""
        if not self._step_seconds:
            return None
        return sum(self._step_seconds) / len(self._step_seconds) * (self.total_steps - self.done)

    def summary(self) -> str:
        """The last metrics in one line."""
        success = ", ".join(f"{level}: {value:.0%}" for level, value in self._success())
        oracle = self.metrics.get("oracle/success")
        shown = [f"{name} {form.format(value)}" for name, form, value in self._numbers()]
        speed = self.metrics.get("tokens_per_second")
        warm_up = "" if oracle is None else f"warm-up: imitates the oracle, which solves {oracle:.0%}"
        parts = [
            f"success {success}" if success else warm_up,
            *shown,
            self._curriculum(),
            f"{speed:,.0f} tokens/s" if speed else "",
        ]
        return " | ".join(part for part in [*parts, self._failures()] if part)

    def _say(self, line: str) -> None:
        """One line of the log; a live display shows the same already."""
        if self._live is None:
            self.log(line)

    def _heartbeat(self) -> None:
        if self._phase and self._clock() - self._spoke >= HEARTBEAT_S:
            self._say(f"  {self._phase}")

    def _success(self) -> list[tuple[str, float]]:
        return [(key.split("/", 1)[1], value) for key, value in self.metrics.items() if key.startswith("success/")]

    def _numbers(self) -> list[tuple[str, str, float]]:
        return [(name, form, self.metrics[key]) for key, name, form in SHOWN if self.metrics.get(key) is not None]

    def _failures(self) -> str:
        return broken(self.metrics)

    def _curriculum(self) -> str:
        """What the curriculum says of itself; what it says of single levels is shown beside them."""
        state = {key: value for key, value in (self.metrics.get("curriculum") or {}).items() if "/" not in key}
        shown = ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in state.items())
        return f"curriculum: {shown}" if shown else ""

    def _render(self) -> RenderableType:
        rows = self._grid()
        left = duration(self.seconds_left)
        rows.add_row("step", _bar(self.done, self.total_steps), f"{self.done}/{self.total_steps}   {left} left")
        if self._phase:
            rows.add_row(Text(self._phase.name, style="bold"), _bar(self._phase.episodes, self._phase.total), self._phase_text())
        head = Text.assemble((self.title, "bold"), (f"   {duration(self._clock() - self._begin)}", "dim"))
        return Padding(Group(head, rows, *self._metrics_table()), (1, 1, 0, 1))

    def _grid(self) -> Table:
        """Label, bar, text; the labels as wide as the longest level needs."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=min(max([16, *(len(f"success {level}") for level, _ in self._success())]), 32))
        grid.add_column(width=30)
        grid.add_column()
        return grid

    def _phase_text(self) -> str:
        assert self._phase
        parts = [f"{self._phase.episodes}/{self._phase.total} episodes" if self._phase.total else ""]
        parts.append(f"{self._phase.tokens_per_second:,.0f} tokens/s" if self._phase.tokens else "")
        parts.append(f"{duration(self._phase.seconds_left)} left" if self._phase.seconds_left is not None else "")
        return "   ".join(part for part in parts if part)

    def _metrics_table(self) -> list[RenderableType]:
        """Success as a bar for each level, then the other numbers in a line."""
        if not self.metrics:
            return []
        levels = self._grid()
        for level, value in self._success():
            share = self.metrics.get(f"share/{level}")
            note = f"   {share:.0%} of the tasks" if share is not None else ""
            bar = ProgressBar(total=1.0, completed=value, width=30, complete_style="green", finished_style="green")
            levels.add_row(Text(f"success {level}", overflow="ellipsis", no_wrap=True), bar, f"{value:4.0%}{note}")
        numbers = "   ".join(f"{name} {form.format(value)}" for name, form, value in self._numbers())
        lines = [Text(line, style="dim") for line in (numbers, self._curriculum()) if line]
        if failures := self._failures():
            lines.append(Text(failures, style="red"))
        return [Text(""), levels, *lines]


def broken(metrics: Mapping[str, Any]) -> str:
    """How many episodes broke, by whose fault it was, and the first message; "" if none did.

    >>> broken({"failed": 1.0, "failures/infrastructure": 1.0, "failure": "0:a/1, reset: no server"})
    '1 episodes failed (infrastructure 1), first 0:a/1, reset: no server'
    """
    lost = int(metrics.get("failed") or 0)
    if not lost:
        return ""
    kinds = {key.removeprefix("failures/"): int(n) for key, n in metrics.items() if key.startswith("failures/")}
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    lines = str(metrics.get("failure") or "").splitlines()
    first = lines[0] if len(lines) < 2 else f"{lines[0]} ... {lines[-1]}"
    return f"{lost} episodes failed ({shown}), first {first}"


def duration(seconds: float | None) -> str:
    """
    >>> [duration(s) for s in (None, 7.4, 95, 4000)]
    ['?', '7s', '1m35s', '1h06m']
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _bar(done: int, total: int | None) -> ProgressBar:
    """A bar; it pulses while the total is unknown."""
    return ProgressBar(total=total, completed=done, width=30, pulse=total is None, finished_style="bar.complete")
