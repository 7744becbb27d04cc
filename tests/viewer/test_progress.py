"""Progress tells a log what a terminal draws."""

from __future__ import annotations

import io

from rich.console import Console

from sojourn.viewer import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(total: int, start: int = 0) -> tuple[Progress, Clock, io.StringIO]:
    file, clock = io.StringIO(), Clock()
    return Progress(total, start=start, console=Console(file=file, width=80), clock=clock), clock, file


def test_without_a_terminal_a_step_is_one_line() -> None:
    progress, clock, file = logged(10)
    with progress:
        with progress.phase("sample", total=4) as phase:
            clock.now = 5.0
            phase.advance(episodes=4, tokens=100)
        clock.now = 20.0
        progress.step(
            {
                "step": 1,
                "reward": 0.5,
                "success/easy [a]": 0.25,
                "zero_signal": 0.1,
                "curriculum": {"at": "easy", "p": 0.333, "share/easy": 1.0},
            }
        )
    assert file.getvalue() == (
        "step 1/10 | success easy [a]: 25% | reward 0.50 | zero signal 10% | curriculum: at easy, p 0.33 | 3m00s left\n"
    )


def test_time_left_follows_the_pace_of_steps_without_evaluations() -> None:
    progress, clock, _ = logged(10, start=6)
    clock.now += 10
    progress.step({"step": 7})
    with progress.phase("evaluate during", total=1):
        clock.now += 1000
    clock.now += 30
    progress.step({"step": 8})
    assert progress.seconds_left == 2 * (10 + 30) / 2


def test_a_long_phase_gives_a_sign_of_life() -> None:
    progress, clock, file = logged(10)
    with progress.phase("evaluate before", total=100) as phase:
        for _ in range(4):
            clock.now += 20
            phase.advance(episodes=10, tokens=1000)
        assert phase.seconds_left == 120
    assert file.getvalue().splitlines() == [
        "  evaluate before, 20/100 episodes, 50 tokens/s, 40s",
        "  evaluate before, 40/100 episodes, 50 tokens/s, 1m20s",
        "evaluate before, 40/100 episodes, 50 tokens/s, 1m20s",
    ]


def test_a_terminal_shows_phase_levels_and_what_was_logged() -> None:
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, width=100, height=30, force_terminal=True)
    with Progress(10, title="quickstart", console=console, clock=clock) as progress:
        progress.step({"step": 3, "reward": 0.5, "success/two calls": 0.31, "share/two calls": 0.7})
        with progress.phase("sample", total=64) as phase:
            clock.now = 2.0
            phase.advance(episodes=12, tokens=600)
            console.print(progress._render())
        progress.log("checkpoint saved")
    shown = file.getvalue()
    for part in (
        "quickstart",
        "3/10",
        "sample",
        "12/64 episodes",
        "300 tokens/s",
        "two calls",
        "31%",
        "70% of the tasks",
        "checkpoint saved",
    ):
        assert part in shown
    assert "| reward" not in shown
