"""Tools: typed Python functions that a policy may call, and a Python interpreter in a sandbox.

A tool has a `ToolSpec`, which the policy reads, and `call`, which always answers with a `ToolResult`: what the caller did wrong
is an error result that the agent sees, what broke beneath is an `InfrastructureError`.
"""

from sojourn.tools.interpreter import PythonInterpreter, Shell
from sojourn.tools.sandbox import Limits, Pool, Ran, Sandbox, Snapshot, Unconfined, Workspace
from sojourn.tools.tool import FunctionTool, Tool, ToolError, run_calls, tool

__all__ = [
    "FunctionTool", "Limits", "Pool", "PythonInterpreter", "Ran", "Sandbox", "Shell", "Snapshot", "Tool", "ToolError",
    "Unconfined", "Workspace", "run_calls", "tool",
]  # fmt: skip
