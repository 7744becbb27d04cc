"""Tools for an agent that writes code: a Python interpreter and a shell, both of a workspace.

The one idea: the tools only tell the agent what came of its code; what runs it, and how it is confined, is `sandbox.Workspace`.  A world
that has both gives both the same workspace, and they see the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sojourn.core import FailureKind, InfrastructureError, ToolResult, ToolSpec
from sojourn.tools.sandbox import Limits, Ran, Sandbox, Workspace
from sojourn.tools.tool import FunctionTool, ToolError

LOST = {
    "": "The variables are kept.",
    "variables": "The interpreter was restarted, its variables are lost.",
    "everything": "The sandbox was restarted, variables and files are lost.",
}


class _WorkspaceTool:
    """What both tools share: the workspace, and the words for what went wrong."""

    def __init__(self, run: Any, name: str, workspace: Workspace) -> None:
        self.workspace = workspace
        self._tool = FunctionTool(run, name=name, timeout_s=None, output_chars=workspace.limits.output_chars + 500)

    @property
    def spec(self) -> ToolSpec:
        return self._tool.spec

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Check the arguments and run.  Raises `InfrastructureError` if the sandbox broke; see the module."""
        try:
            return await self._tool.call(arguments)
        except InfrastructureError as error:
            raise InfrastructureError(f"tool '{self.spec.name}': {error}") from error

    async def close(self) -> None:
        """Close the workspace.  The next call would start a new one."""
        await self.workspace.close()

    def _told(self, ran: Ran, kept: str) -> str:
        """The output, if the agent is to see that alone.  Raises `ToolError` with what else there is to say."""
        output = ran.output if not ran.output or ran.output.endswith("\n") else ran.output + "\n"
        if ran.fault == "timeout":
            text = f"{output}The time limit of {self.workspace.limits.timeout_s:g} s was reached. {LOST[ran.lost] if ran.lost else kept}"
            raise ToolError(text, FailureKind.BUDGET)
        if ran.fault == "died":
            raise ToolError(f"{output}The code ended the interpreter ({ran.how}). {LOST[ran.lost]}")
        return ran.output


class PythonInterpreter(_WorkspaceTool):
    """A tool that runs Python code in a sandbox; see docs/sandbox.md.  One instance serves one episode; its calls run in order.

    timeout_s, memory_mb, output_chars: as in `Limits`.
    sandbox: how the code is confined; else the strongest way that works here.
    unsafe: allow process limits alone where nothing confines.
    workspace: the one to work in; it then has limits and sandbox of its own.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 256,
        output_chars: int = 4000,
        sandbox: Sandbox | None = None,
        unsafe: bool = False,
        workspace: Workspace | None = None,
        name: str = "python",
    ) -> None:
        limits = Limits(timeout_s=timeout_s, memory_mb=memory_mb, output_chars=output_chars)
        super().__init__(self.run, name, workspace or Workspace(limits, sandbox=sandbox, unsafe=unsafe))

    async def run(self, code: str) -> str:
        """Run Python code and see what it prints. Variables are kept between calls.

        Args:
            code: the Python code to run
        """
        ran = await self.workspace.python(code)
        text = self._told(ran, LOST[""])
        if ran.fault is not None:
            raise ToolError(text or "(an error that could not be shown)")
        return text or "(no output)"


class Shell(_WorkspaceTool):
    """A tool that runs bash commands in a workspace; it needs bubblewrap.  Folder and variables live from call to call."""

    def __init__(self, *, workspace: Workspace | None = None, name: str = "shell") -> None:
        super().__init__(self.run, name, workspace or Workspace())

    async def run(self, command: str) -> str:
        """Run a bash command and see what it prints. Folder, variables and functions are kept between calls; processes are not.

        Args:
            command: the command to run
        """
        ran = await self.workspace.shell(command)
        text = self._told(ran, "The shell is where it was before the command.")
        if ran.fault is not None:
            raise ToolError(text)
        if ran.code:
            text = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}(exit code {ran.code})"
        return text or "(no output)"
