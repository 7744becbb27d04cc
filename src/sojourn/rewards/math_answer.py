"""Whether a mathematical answer equals the right one: by exact number, and by math-verify where it is installed.

The one idea: what is plainly a number is compared here, exactly, so that most answers need no process; only the others (`\\frac{1}{2}`,
`x = 3`, sets) go to worker processes, since sympy may take for ever and cannot be stopped in a thread.  Whose fault that is goes by the
processor's time: an answer that uses up its share is the policy's (`BUDGET`, and wrong); a worker that dies, or gives no answer although
it had none of the time, is the infrastructure's.

Source: math-verify (Hugging Face; extra `math`), which takes the last expression in a text for its answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sojourn.core import Failure, FailureKind, InfrastructureError

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?(?!\w)")
WORKER = Path(__file__).with_name("math_worker.py")
LONGEST = 2000


class Verdict(NamedTuple):
    """`failure` says why an answer could not be compared, where the policy is to blame; it is then wrong."""

    correct: bool
    failure: Failure | None = None


async def math_answer(said: str, gold: str, *, cpu_s: int = 5, deadline_s: float = 60.0, library: bool | None = None) -> Verdict:
    """Whether `said` is `gold`.  Of a text with `####`, what follows the last counts.

    cpu_s: seconds of the processor that comparing may take; past them the answer is wrong and its policy's fault.
    deadline_s: seconds by the clock, waiting included; past them `InfrastructureError` is raised.
    library: whether to ask math-verify; None for where it is installed.  Without it, the text must have one number and no other.
    """
    said = said.rpartition("####")[2].strip()[-LONGEST:]
    right, plain = _exact(gold), _exact(said)
    if right is not None and plain is not None:
        return Verdict(right == plain)
    if not (has_math_verify() if library is None else library):
        numbers = {_fraction(match) for match in NUMBER.findall(said)}
        return Verdict(numbers == {right} if right is not None else said == gold)
    try:
        return Verdict(await asyncio.to_thread(_workers().ask, said, gold, cpu_s, deadline_s))
    except _TooLong:
        return Verdict(False, Failure(FailureKind.BUDGET, "math-verify", f"the answer took more than {cpu_s} s of the processor"))


def has_math_verify() -> bool:
    """Whether the extra `math` is installed."""
    return find_spec("math_verify") is not None


def _exact(text: str) -> Fraction | None:
    """The number that a text is, and nothing else; `$` before it and a full stop after it do not count.

    >>> _exact("$1,000."), _exact("-0.50"), _exact("72 eggs")
    (Fraction(1000, 1), Fraction(-1, 2), None)
    """
    text = text.strip().removesuffix(".").removeprefix("$")
    return _fraction(text) if NUMBER.fullmatch(text) else None


def _fraction(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


class _TooLong(Exception):
    """The kernel ended the worker: its answer had used up the processor's time."""


class _Workers:
    """Worker processes, started when they are needed, at most one a core; each takes one answer at a time."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._idle: list[subprocess.Popen[bytes]] = []

    def ask(self, said: str, gold: str, cpu_s: int, deadline_s: float) -> bool:
        ends = time.monotonic() + deadline_s
        if not self._free.acquire(timeout=deadline_s):
            raise InfrastructureError(f"math-verify: no worker was free in {deadline_s:g} s (raise deadline_s)")
        try:
            worker = self._idle.pop() if self._idle else self._start()
            same = self._compare(worker, [cpu_s, gold, said], ends)
            self._idle.append(worker)
            return same
        finally:
            self._free.release()

    def _compare(self, worker: subprocess.Popen[bytes], asked: object, ends: float) -> bool:
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps(asked).encode() + b"\n")
            worker.stdin.flush()
            ready, _, _ = select.select([worker.stdout], [], [], max(ends - time.monotonic(), 0))
            reply = worker.stdout.readline() if ready else None
        except OSError:
            reply = b""
        if reply:
            return bool(json.loads(reply))
        if reply is None:
            worker.kill()
        code = worker.wait()
        worker.stdin.close()
        worker.stdout.close()
        if code == -signal.SIGXCPU:
            raise _TooLong
        what = "gave no answer in time (raise deadline_s)" if reply is None else f"died (exit code {code})"
        raise InfrastructureError(f"math-verify: its worker {what}")

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", str(WORKER)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@cache
def _workers() -> _Workers:
    return _Workers(os.cpu_count() or 1)
