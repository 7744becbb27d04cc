"""Rewards: judges of what was said, as plain functions.  An environment calls them and pays what they return as a named term."""

from sojourn.rewards.math_answer import Verdict, math_answer
from sojourn.rewards.planning import imagined_move
from sojourn.rewards.tool_calls import tool_correctness, tool_format

__all__ = ["Verdict", "imagined_move", "math_answer", "tool_correctness", "tool_format"]
