"""Answers are compared by value, within the processor's time; a worker that breaks is no wrong answer."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from sojourn.core import FailureKind, InfrastructureError
from sojourn.rewards import Verdict, math_answer

module: Any = sys.modules["sojourn.rewards.math_answer"]  # the package's attribute of that name is the function
has_library = pytest.mark.skipif(not module.has_math_verify(), reason="sojourn[math] is not installed")


def verdict(said: str, gold: str = "72", **options: Any) -> Verdict:
    return asyncio.run(math_answer(said, gold, **options))


BOTH = [pytest.param(False, id="exact"), pytest.param(True, id="math-verify", marks=has_library)]


@pytest.mark.parametrize("library", BOTH)
@pytest.mark.parametrize("said", ["72", " 72. ", "72.0", "$72", "+72", "First 3.\n#### 72", "The answer is 72.", "72 eggs"])
def test_the_right_number_is_right_however_it_is_written(said: str, library: bool) -> None:
    assert verdict(said, library=library) == Verdict(True)


@pytest.mark.parametrize("library", BOTH)
@pytest.mark.parametrize("said", ["", "73", "7 2", "-72", "0.72", "72 or 73", "#### 72 #### 73", "seventy", "{}", "\x00", "1/72"])
def test_another_answer_is_wrong(said: str, library: bool) -> None:
    assert verdict(said, library=library) == Verdict(False)


def test_thousands_may_be_parted_by_commas_and_no_digit_may_differ() -> None:
    assert verdict("1,234,567", "1234567").correct and not verdict("1,234,567", "1234568").correct
    assert not verdict("12,34", "1234", library=False).correct and not verdict("72x", library=False).correct


@has_library
@pytest.mark.parametrize(
    ("said", "gold"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"so it is \boxed{72}", "72"),
        ("$x = 72$", "72"),
        (r"$\sqrt{8}$", r"2\sqrt{2}"),
        ("$36 + 36$", "72"),
    ],
)
def test_formulas_of_one_value_are_equal(said: str, gold: str) -> None:
    assert verdict(said, gold) == Verdict(True)
    assert not verdict(said, "73").correct


@has_library
def test_a_list_of_answers_is_its_last() -> None:
    assert not verdict("70, 71, 72, 73").correct
    assert not verdict(r"$\{71, 72\}$").correct


@has_library
def test_an_answer_that_takes_for_ever_is_wrong_and_the_policys_fault_and_the_next_is_judged() -> None:
    said = verdict("$9^{9^{9^9}}$", cpu_s=1)
    assert not said.correct and said.failure is not None and said.failure.kind is FailureKind.BUDGET
    assert verdict(r"\boxed{72}") == Verdict(True)


def broken_worker(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub of the worker, in a pool of its own."""
    (tmp_path / "worker.py").write_text(program)
    workers = module._Workers(1)
    monkeypatch.setattr(module, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(module, "_workers", lambda: workers)


@pytest.mark.parametrize(
    ("program", "deadline_s", "said"),
    [
        ("raise SystemExit(3)", 60, "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", 60, "exit code -9"),
        ("input(); input()", 0.05, "in time"),
    ],
)
def test_a_worker_that_breaks_is_the_infrastructures_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, deadline_s: float, said: str
) -> None:
    broken_worker(tmp_path, program, monkeypatch)
    for _ in range(2):  # its place is free again
        with pytest.raises(InfrastructureError, match=f"math-verify: its worker.*{said}"):
            verdict("one half", library=True, deadline_s=deadline_s)


@has_library
def test_many_answers_at_once_do_not_mix() -> None:
    async def all_of_them() -> list[Verdict]:
        return await asyncio.gather(*(math_answer(rf"\boxed{{{i}}}", str(i - i % 2)) for i in range(40)))

    assert [each.correct for each in asyncio.run(all_of_them())] == [True, False] * 20
