"""The Python interpreter: whatever code does, the agent gets an answer in time, and the host is left alone."""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confined import LIMITS, every_sandbox, needs_bwrap, of_kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.core import FailureKind, InfrastructureError, ToolResult
from sojourn.tools import PythonInterpreter, Sandbox, Unconfined
from sojourn.tools.sandbox import box as boxes
from sojourn.tools.sandbox import sandbox

EVERY_PIPE = "import os, contextlib\nfor fd in range(3, 64):\n  with contextlib.suppress(OSError):\n    "
LOST = {
    "limits": "The sandbox was restarted, variables and files are lost.",
    "bubblewrap": "The interpreter was restarted, its variables are lost.",
}


def play(box: str, *codes: str, **options: Any) -> list[ToolResult]:
    """The results of running `codes` in one episode."""

    async def episode() -> list[ToolResult]:
        python = PythonInterpreter(sandbox=of_kind(box), **options)
        try:
            async with asyncio.timeout(120):
                return [await python.call({"code": code}) for code in codes]
        finally:
            await python.close()

    return asyncio.run(episode())


@every_sandbox
def test_state_lives_from_call_to_call(box: str) -> None:
    results = play(box, "x = 6\ndef f(y): return x * y", "import math", "print(f(7), math.gcd(12, 18))")
    assert results[-1] == ToolResult("python", "42 6\n")


def test_the_last_value_is_shown_as_in_the_console() -> None:
    assert [r.text for r in play("limits", "2\n'a' + 'b'", "None", "x = 5")] == ["'ab'\n", "(no output)", "(no output)"]


def test_an_exception_is_shown_from_the_codes_own_frame_on() -> None:
    result, after = play("limits", "x = 1\ndef f():\n    return x / 0\nprint('before')\nf()", "x")
    assert result.error and result.kind is FailureKind.MODEL
    assert result.text.startswith('before\nTraceback (most recent call last):\n  File "<cell 1>", line 5, in <module>\n    f()')
    assert "return x / 0" in result.text and result.text.endswith("ZeroDivisionError: division by zero\n")
    assert after.text == "1\n"


@every_sandbox
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntry:\n    time.sleep(1000)\nexcept Exception:\n    pass",
        "9 ** 9 ** 9",
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    ],
)
def test_code_that_runs_too_long_is_interrupted_and_keeps_its_state(box: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "GRACE_S", 60)
    _, result, after = play(box, "x = 5", f"print('so far')\n{code}", "x", timeout_s=0.4)
    assert result.text == "so far\nThe time limit of 0.4 s was reached. The variables are kept."
    assert (result.error, result.kind) == (True, FailureKind.BUDGET)
    assert after.text == "5\n"


@every_sandbox
@pytest.mark.parametrize(
    "code",
    [
        "sum(range(10 ** 15))",
        "import time\nwhile True:\n    try:\n        time.sleep(1000)\n    except BaseException:\n        pass",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
    ],
)
def test_code_that_cannot_be_interrupted_is_killed_and_the_agent_told(
    box: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "GRACE_S", 0.3)
    result, after = play(box, f"print('so far')\n{code}", "print(6 * 7)", timeout_s=0.4)
    assert result.text.endswith("The time limit of 0.4 s was reached. " + LOST[box])
    assert (result.error, result.kind) == (True, FailureKind.BUDGET)
    assert after.text == "42\n"


@every_sandbox
@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
def test_code_that_kills_its_process_is_told_so(box: str, code: str, how: str) -> None:
    result, after = play(box, f"x = 1\nprint('so far')\n{code}", "x")
    assert result.text == f"so far\nThe code ended the interpreter ({how}). {LOST[box]}"
    assert (result.error, result.kind) == (True, FailureKind.MODEL)
    assert "NameError" in after.text


@pytest.mark.parametrize(
    "code",
    [
        "print('<' + 'x' * 100_000_000 + '>', end='')",
        "print('<', end='')\nfor _ in range(1000): print('x' * 100_000, end='')\nprint('>', end='')",
    ],
)
def test_a_hundred_megabytes_of_output_lose_their_middle(code: str) -> None:
    (result,) = play("limits", code, output_chars=100, timeout_s=60, memory_mb=512)
    assert result == ToolResult("python", f"<{'x' * 49}\n... [99999902 characters left out] ...\n{'x' * 49}>")


@every_sandbox
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os; os.fork()", "BlockingIOError"),
        ("import subprocess; subprocess.run(['true'])", "BlockingIOError"),
        ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
        ("held = []\nwhile True: held.append(bytes(1 << 20))", "MemoryError"),
        ("bytes(1 << 40)", "MemoryError"),
        ("open('big', 'wb').write(bytes(20 << 20))", "File too large"),
        ("held = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))", "not allowed to raise maximum limit"),
    ],
)
def test_code_that_takes_too_much_gets_an_error_and_goes_on(box: str, code: str, error: str) -> None:
    result, after = play(box, code, "held = None", timeout_s=20)
    assert result.error and error in result.text
    assert after.text == "(no output)"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("input()", "EOFError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("print('unclosed", "SyntaxError"),
        ("x = '\0'", "null bytes"),
        ("print('\ud800')", "surrogates not allowed"),
        ("(" * 10_000, "too many nested parentheses"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("class A:\n    def __str__(self): raise ValueError\nprint(A())", "ValueError"),
    ],
)
def test_code_that_is_wrong_gets_an_error_and_goes_on(code: str, error: str) -> None:
    result, after = play("limits", code, "6 * 7", timeout_s=20)
    assert result.error and error in result.text
    assert after.text == "42\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.closerange(0, 64)",
        EVERY_PIPE + "os.write(fd, b'x' * 300_000)",
        EVERY_PIPE + "os.write(fd, b'[' * 60_000 + b'\\n{\"id\": 1}\\n7\\n')",
        EVERY_PIPE + 'os.write(fd, b\'\\n{"id": 1, "fault": null}\\n\')',
        EVERY_PIPE + "os.read(fd, 1 << 20)",
        "import sys; sys.stdout.close(); sys.stderr = None",
        "import builtins; del builtins.print, builtins.open",
        "import sys; sys.modules.clear()",
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict): o.clear()",
    ],
)
def test_code_that_breaks_the_interpreter_from_within_gets_an_answer(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "GRACE_S", 0.3)
    *results, last = play("limits", code, "1", "1", "6 * 7", timeout_s=1.0)
    assert all(result.text for result in results)
    assert last.text == "42\n"


@every_sandbox
def test_each_interpreter_has_an_empty_directory_of_its_own_that_goes_with_it(box: str) -> None:
    first, place = play(box, "import os\nos.listdir()", "open('mine', 'w').write('x')\nprint(os.getcwd())")
    assert first.text == "[]\n"
    assert play(box, "import os\nos.listdir()")[0].text == "[]\n"
    assert not Path(place.text.strip(), "mine").exists()


@every_sandbox
def test_code_is_not_root_and_sees_nothing_of_the_hosts_environment(box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    user, environment = play(
        box,
        "import os\nprint(0 in (os.getuid(), os.geteuid()))",
        "for p in ('/proc/self/environ', '/proc/1/environ'):\n"
        "    try: print('hunter2' in open(p).read())\n"
        "    except OSError: print(False)",
    )
    assert user.text == "False\n"
    assert environment.text == "False\nFalse\n"


def test_the_same_code_answers_the_same_in_every_process() -> None:
    code = "print(list({'red', 'green', 'blue', 'white'}), hash('x'))"
    assert play("limits", code)[0].text == play("limits", code)[0].text


@needs_bwrap
def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (result,) = play("bubblewrap", f"import socket; socket.create_connection({server.getsockname()}, 5)", timeout_s=20)
    assert result.error and ("OSError" in result.text or "ConnectionRefusedError" in result.text)


@needs_bwrap
def test_the_hosts_files_and_processes_are_out_of_reach(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    read, kill, pids, write = play(
        "bubblewrap",
        f"open({str(secret)!r}).read()",
        f"import os; os.kill({os.getpid()}, 0)",
        "len([p for p in os.listdir('/proc') if p.isdigit()])",
        "for place in ('/', '/usr', '/dev', '/dev/shm', '/tmp', '/etc'):\n"
        "    try: open(place + '/x', 'w'); print('wrote', place)\n"
        "    except OSError: pass",
    )
    assert "FileNotFoundError" in read.text
    assert "ProcessLookupError" in kill.text
    assert int(pids.text) <= 3
    assert write.text == "(no output)"


@needs_bwrap
def test_files_are_limited_together() -> None:
    code = "for i in range(100):\n    with open(f'f{i}', 'wb') as file: file.write(bytes(8 << 20))"
    assert "No space left on device" in play("bubblewrap", code, timeout_s=60)[0].text


def test_calls_of_one_interpreter_run_in_order() -> None:
    async def episode() -> list[ToolResult]:
        python = PythonInterpreter(sandbox=LIMITS)
        results = await asyncio.gather(*(python.call({"code": code}) for code in ("x = [1]", "x.append(2)", "x")))
        await python.close()
        return results

    assert asyncio.run(episode())[-1].text == "[1, 2]\n"


def test_a_cancelled_call_does_not_answer_the_next_one() -> None:
    async def episode() -> ToolResult:
        python = PythonInterpreter(sandbox=LIMITS)
        await python.call({"code": "x = 1"})
        running = asyncio.create_task(python.call({"code": "import time; time.sleep(1); print('late')"}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        result = await python.call({"code": "print('next')"})
        await python.close()
        return result

    assert asyncio.run(episode()).text == "next\n"


@every_sandbox
def test_a_closed_interpreter_is_gone_and_may_start_afresh(box: str) -> None:
    async def episode() -> tuple[int | None, str]:
        python = PythonInterpreter(sandbox=of_kind(box))
        await python.call({"code": "x = 1"})
        process = python.workspace._own().box.process
        await python.close()
        text = (await python.call({"code": "x"})).text
        await python.close()
        return process.returncode, text

    code, text = asyncio.run(episode())
    assert code is not None and "NameError" in text


@needs_bwrap
def test_a_sandbox_that_is_killed_from_outside_is_the_infrastructures_fault() -> None:
    async def episode() -> None:
        python = PythonInterpreter(sandbox=of_kind("bubblewrap"), timeout_s=60)
        await python.call({"code": "1"})
        running = asyncio.create_task(python.call({"code": "while True: pass"}))
        await asyncio.sleep(0)
        os.kill(python.workspace._own().box.process.pid, signal.SIGKILL)
        with pytest.raises(InfrastructureError, match=r"tool 'python': the sandbox was killed from outside \(SIGKILL\)"):
            await running

    asyncio.run(episode())


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/false"])
def test_a_sandbox_that_does_not_start_is_the_infrastructures_fault(program: str) -> None:
    with pytest.raises(InfrastructureError, match="tool 'python': the sandbox"):
        asyncio.run(PythonInterpreter(sandbox=Sandbox("limits", program)).call({"code": "1"}))


def test_wrong_arguments_are_explained() -> None:
    result = asyncio.run(PythonInterpreter(sandbox=LIMITS).call({"source": "1"}))
    assert result.text == "Error: missing argument 'code'; unknown argument 'source'. Expected python(code: string)"


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    sandbox._best.cache_clear()
    yield
    sandbox._best.cache_clear()


@pytest.mark.usefixtures("fresh_probe")
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "not installed: `apt-get install bubblewrap`"),
        ("/bin/false", "Bubblewrap does not work here: .*/python.*exit code 1"),
    ],
)
def test_without_confinement_nothing_runs_unless_unsafe_is_written_out(
    monkeypatch: pytest.MonkeyPatch, found: str | None, reason: str
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **kw: found if name == "bwrap" else which(name, **kw))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unconfined, match=f"{reason}.*pip install 'sojourn\\[wasm\\]'.*unsafe=True"):
        asyncio.run(PythonInterpreter().call({"code": "1"}))
    assert Sandbox.best(unsafe=True).kind == "limits"
    assert asyncio.run(PythonInterpreter(unsafe=True).call({"code": "6 * 7"})).text == "42\n"


def test_where_no_python_can_be_read_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setattr(shutil, "which", lambda name, **kw: None)
    with pytest.raises(Unconfined, match=r"/no/such/python: .*install one that every user can read"):
        Sandbox.limits_only()


any_text = st.text(st.characters(exclude_categories=()), max_size=20)
nasty = st.sampled_from(
    [
        "while True: pass",
        "import os; os._exit(1)",
        "import os; os.close(0)",
        "raise BaseException",
        "raise SystemExit(1)",
        "print('x' * 10**7)",
        "import sys; sys.stdout = None",
        "x = []\nwhile True: x.append(x[:] or [0] * 10**6)",
        "import os; os.abort()",
        "import sys; sys.setrecursionlimit(10**8)\nf = lambda: f()\nf()",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0.001)",
        "import os\nwhile True: os.write(4, b'\\n')",
    ]
)


@every_sandbox
def test_any_code_is_answered(box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "GRACE_S", 0.3)
    with asyncio.Runner() as runner:
        python = PythonInterpreter(sandbox=of_kind(box), timeout_s=0.1, output_chars=50)

        @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(nasty | any_text, min_size=1, max_size=3).map("\n".join))
        def answered(code: str) -> None:
            result = runner.run(asyncio.wait_for(python.call({"code": code}), 60))
            assert 0 < len(result.text) < 300
            assert result.text.encode()

        answered()
        runner.run(python.close())
