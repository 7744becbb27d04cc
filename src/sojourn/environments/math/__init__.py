"""Mathematics."""

from sojourn.environments.math.tool_arithmetic import ArithmeticTasks, ToolArithmetic, calc

__all__ = ["ArithmeticTasks", "ToolArithmetic", "calc"]
