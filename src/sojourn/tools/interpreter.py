"""A stateful Python interpreter for an agent: what one call defines, the next one can use.

The one idea: whatever the code does is the agent's doing and comes back as a result.  Code that runs too long is interrupted and
its variables live on; what cannot be interrupted is killed, and the agent is told that its state is lost.  Only a sandbox that
does not start, or that is killed from outside, is an `InfrastructureError`.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sojourn.core import FailureKind, InfrastructureError, ToolResult, ToolSpec
from sojourn.tools.sandbox import Box, Sandbox
from sojourn.tools.tool import FunctionTool, ToolError

START_S = 60.0
GRACE_S = 2.0
LOST = "The interpreter was restarted, its state is lost."
WORKER = Path(__file__).with_name("worker.py")


class PythonInterpreter:
    """A tool that runs Python code in a sandbox; see docs/sandbox.md.  One instance serves one episode; its calls run in order.

    timeout_s: seconds that one call may take.
    memory_mb: address space of the process, in MiB; beyond it the code gets a MemoryError.
    output_chars: characters of output at most; the middle of a longer one is left out.
    sandbox: how the process is confined; else the strongest way that works here.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 256,
        output_chars: int = 4000,
        sandbox: Sandbox | None = None,
        name: str = "python",
    ) -> None:
        self.timeout_s = timeout_s
        self.settings = {"timeout_s": timeout_s, "memory_mb": memory_mb, "output_chars": output_chars}
        self.sandbox = sandbox
        self._tool = FunctionTool(self.run, name=name, timeout_s=None, output_chars=output_chars + 500)
        self._lock = asyncio.Lock()
        self._worker: _Worker | None = None

    @property
    def spec(self) -> ToolSpec:
        return self._tool.spec

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run `arguments["code"]`.  Raises `InfrastructureError` if the sandbox broke; see the module."""
        return await self._tool.call(arguments)

    async def run(self, code: str) -> str:
        """Run Python code and see what it prints. Variables are kept between calls.

        Args:
            code: the Python code to run
        """
        async with self._lock:
            if self._worker is None:
                self._worker = await _Worker.start(self.sandbox or Sandbox.best(), self.settings)
            worker = self._worker
            try:
                async with asyncio.timeout(self.timeout_s + GRACE_S):
                    fault = await worker.run(code)
            except TimeoutError:
                await self._stop()
                raise self._out_of_time(worker.output, LOST) from None
            except (EOFError, ConnectionError):
                raise await self._died(worker) from None
            except BaseException:  # cancelled: what it is doing now must not answer the next call
                await self._stop()
                raise
        if fault == "timeout":
            raise self._out_of_time(worker.output, "The variables are kept.")
        if fault is not None:
            raise ToolError(worker.output or "(an error that could not be shown)")
        return worker.output or "(no output)"

    async def close(self) -> None:
        """Kill the process.  The next call would start a new one."""
        async with self._lock:
            await self._stop()

    async def _stop(self, patience_s: float = 0.0) -> int | None:
        worker, self._worker = self._worker, None
        return await worker.box.end(patience_s) if worker else None

    async def _died(self, worker: _Worker) -> ToolError:
        """What to say of a worker that is no more.  Raises `InfrastructureError` if that was not the code's doing."""
        code = await self._stop(patience_s=GRACE_S)
        if worker.box.sandbox.bwrap and code is not None and code < 0:  # code cannot reach bubblewrap itself
            raise InfrastructureError(f"tool '{self.spec.name}': the sandbox was killed from outside ({_name_exit(code)})")
        return ToolError(f"{_as_lines(worker.output)}The code ended the interpreter ({_name_exit(code)}). {LOST}")

    def _out_of_time(self, output: str, then: str) -> ToolError:
        text = f"{_as_lines(output)}The time limit of {self.timeout_s:g} s was reached. {then}"
        return ToolError(text, FailureKind.BUDGET)


class _Worker:
    """A living worker process, and the host's end of the pipes; `output` is what the current code has printed."""

    def __init__(self, box: Box, process: asyncio.subprocess.Process, output_chars: int) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.box = box
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self.output_chars = output_chars
        self.request = 0
        self.output = ""

    @classmethod
    async def start(cls, sandbox: Sandbox, settings: Mapping[str, Any]) -> _Worker:
        """Start one.  Raises `InfrastructureError` if it is not ready in `START_S`."""
        box = Box(sandbox)
        arguments = ["-c", WORKER.read_text(), json.dumps(settings)]
        try:
            process = await box.start(arguments, line_bytes=(1 << 16) + 16 * settings["output_chars"])
        except OSError as error:
            raise InfrastructureError(f"Python interpreter: the sandbox cannot be started ({error})") from error
        worker = cls(box, process, settings["output_chars"])
        try:
            async with asyncio.timeout(START_S):
                await worker.answer("ready")
        except (TimeoutError, EOFError) as error:
            code = await box.end(GRACE_S if isinstance(error, EOFError) else 0)
            said = (await worker.stderr.read()).decode(errors="replace").strip() or _name_exit(code)
            raise InfrastructureError(f"Python interpreter: the sandbox did not start in {START_S:g} s: {said}") from error
        except BaseException:
            await box.end()
            raise
        return worker

    async def run(self, code: str) -> str | None:
        """Run `code`; how it ended, as the worker says.  Raises EOFError or ConnectionError if the worker dies."""
        self.request += 1
        self.output = ""
        self.stdin.write(json.dumps({"id": self.request, "code": code}).encode() + b"\n")
        await self.stdin.drain()
        end = await self.answer("fault")
        if end.get("left_out"):
            self.output += f"\n... [{end['left_out']} characters left out] ...\n"
        self.output += str(end.get("tail", ""))
        return None if end["fault"] is None else str(end["fault"])

    async def answer(self, key: str) -> dict[str, Any]:
        """The next line of this request that has `key`; what is printed on the way goes to `output`.

        Code can find the pipe and write to it.  So nothing is believed: a line that is none of the worker's is passed over.
        """
        while not self.stdout.at_eof():
            try:
                message = json.loads(await self.stdout.readline())
            except (ValueError, RecursionError):
                continue
            if not isinstance(message, dict) or message.get("id") != self.request:
                continue
            if key in message:
                return message
            self.output = (self.output + str(message.get("out", "")))[: self.output_chars]
        raise EOFError


def _as_lines(output: str) -> str:
    return output if not output or output.endswith("\n") else output + "\n"


def _name_exit(code: int | None) -> str:
    """An exit code in words; bubblewrap and shells report signal n as 128 + n."""
    if code is None:
        return "it gave no sign of life"
    number = -code if code < 0 else code - 128
    return signal.Signals(number).name if number in signal.valid_signals() else f"exit code {code}"
