"""Worlds of code: programs that must pass tests which the policy cannot see, judged in the sandbox."""

from sojourn.environments.code.humaneval import humaneval_world
from sojourn.environments.code.leetcode import leetcode_world
from sojourn.environments.code.problem import CodeProblem

__all__ = ["CodeProblem", "humaneval_world", "leetcode_world"]
