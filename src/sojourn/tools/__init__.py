"""Tools: typed Python functions that a policy may call, and a Python interpreter in a sandbox.

A tool has a `ToolSpec`, which the policy reads, and `call`, which always answers with a `ToolResult`: what the caller did wrong
is an error result that the agent sees, what broke beneath is an `InfrastructureError`.
"""

from sojourn.tools.interpreter import PythonInterpreter
from sojourn.tools.sandbox import Sandbox
from sojourn.tools.tool import FunctionTool, Tool, ToolError, run_calls, tool

__all__ = ["FunctionTool", "PythonInterpreter", "Sandbox", "Tool", "ToolError", "run_calls", "tool"]
