"""Judging a program that a policy wrote, with nothing of the tests within its reach.

The one idea: programs and tests never meet.  One sandbox holds the program: arguments go in, what it returned comes out, as literals of
Python.  Another holds the tests, whose `candidate` replays those outputs.  So a program cannot read an expected value, end the test runner,
redefine what it calls, or return something that is equal to everything.

    tests say the calls   ->   the program is called, its returns are written down   ->   tests are run on what was written down

A problem's data (all texts are Python):
    entry      what the program must define                  call       `call(*arguments)` in terms of it, in the program's sandbox
    prelude    what stands before the program                reference  what the tests need; `gold`, if there is a solution
    checks     makes `CHECKS`, functions of `candidate`: first those of `shown`, then the hidden ones
    shown      pairs of a call's arguments and what it should return       calls    the arguments of all calls; else `gold` says them
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sojourn.core import InfrastructureError
from sojourn.tools import Limits, Workspace

TEXT_CHARS = 20_000
"""Of one returned value, as a literal; what is longer is wrong."""
CALL = """
def _answers(calls):
    import ast, json
    said = []
    for text in calls:
        try:
            said.append(["value", repr(call(*ast.literal_eval(text)))[:{most} + 1]])
        except Exception as error:
            said.append(["raised", f"{{type(error).__name__}}: {{error}}"[:300]])
    with open("said.json", "w") as file:
        json.dump(said, file)
_answers({calls!r})
"""
RECORD = """
import json, random
_calls = []
def _recording(*arguments):
    _calls.append(repr(arguments))
    return gold(*arguments)
random.seed(0)
for _check in CHECKS:
    _check(_recording)
with open("calls.json", "w") as _file:
    json.dump(_calls, _file)
"""
REPLAY = """
import ast, json, random
with open("said.json") as _file:
    _said = iter(json.load(_file))
class _Raised(AssertionError): pass
def _candidate(*arguments):
    kind, text = next(_said)
    if kind != "value" or len(text) > {most}:
        raise _Raised(text)
    return ast.literal_eval(text)
random.seed(0)
_verdicts = []
for _check in CHECKS:
    try:
        _check(_candidate)
    except Exception:
        _verdicts.append(False)
    else:
        _verdicts.append(True)
with open("verdicts.json", "w") as _file:
    json.dump(_verdicts, _file)
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """passed: each check, the shown ones first.  problem: why nothing could be called; then none passed.  said: what the calls gave."""

    passed: Sequence[bool]
    problem: str = ""
    said: Sequence[tuple[str, str]] = ()

    @property
    def all_passed(self) -> bool:
        return not self.problem and bool(self.passed) and all(self.passed)


async def judge(program: str, data: Mapping[str, Any], limits: Limits) -> Verdict:
    """Run it and the tests.  Raises `InfrastructureError` if a sandbox broke; whatever the program does is its own fault."""
    async with Workspace(limits) as tests:
        await _trusted(tests, f"{data['reference']}\n{data['checks']}")
        calls = data.get("calls")
        if calls is None:
            await _trusted(tests, RECORD)
            calls = json.loads(await tests.read("calls.json"))
        said, problem = await _answers(program, data, calls, limits)
        if problem:
            return Verdict((), problem)
        await tests.write("said.json", json.dumps(said).encode())
        await _trusted(tests, REPLAY.format(most=TEXT_CHARS))
        return Verdict(json.loads(await tests.read("verdicts.json")), said=said)


async def _answers(
    program: str, data: Mapping[str, Any], calls: Sequence[str], limits: Limits
) -> tuple[list[tuple[str, str]], str]:
    """What each call gave, or why none was made."""
    async with Workspace(limits) as work:
        for code in (data["prelude"], program, data["call"], CALL.format(calls=calls, most=TEXT_CHARS)):
            ran = await work.python(code)
            if ran.fault == "timeout":
                return [], f"the time limit of {limits.timeout_s:g} s was reached"
            if ran.fault == "died":
                return [], f"the program ended its interpreter ({ran.how})"
            if ran.fault is not None:
                return [], ran.output.strip()[-1000:]
        try:  # the program can write this file itself, and gains nothing by it
            said = [(str(kind), str(text)) for kind, text in json.loads(await work.read("said.json"))]
        except (ValueError, TypeError, OSError) as error:
            return [], f"the program left nothing that could be read ({type(error).__name__})"
    return (said, "") if len(said) == len(calls) else ([], "the program left something else than what its calls gave")


async def _trusted(tests: Workspace, code: str) -> None:
    ran = await tests.python(code)
    if ran.fault is not None:
        raise InfrastructureError(f"the tests could not be run ({ran.fault}): {ran.output[-500:]}")
