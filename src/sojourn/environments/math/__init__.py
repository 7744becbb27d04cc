"""Mathematics."""

from sojourn.environments.math.gsm8k import MathProblem, gsm8k
from sojourn.environments.math.tool_arithmetic import ArithmeticTasks, ToolArithmetic, calc

__all__ = ["ArithmeticTasks", "MathProblem", "ToolArithmetic", "calc", "gsm8k"]
