"""Write a program that passes hidden tests: in one turn, or with tries and what the shown tests say.

After HumanEval (Chen et al., arXiv 2107.03374), LeetCode's problems, and, for repair with feedback, Self-Debug (arXiv 2304.05128).
"""

from __future__ import annotations

import ast
import re
from typing import Any

from sojourn.core import Action, Observation, Task, TaskSource, Transition
from sojourn.environments.code.judge import Verdict, judge
from sojourn.environments.small.common import SmallWorld
from sojourn.environments.tools import answer_text
from sojourn.environments.world import TaskList
from sojourn.tools import Limits

FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
HIDDEN = "The shown tests pass, a hidden one does not. Answer with the whole program again."
LIMITS = Limits(timeout_s=10.0)


class CodeProblem(SmallWorld[tuple[str, ...]]):
    """The state is what was said to wrong answers.

    Reward: `correct`, 1 if all tests pass, shown and hidden, else 0, paid for the answer that ends the episode: what the last fenced block
    holds, else all of the text.  `share`, if `partial` is above 0: `partial` times the share of hidden tests that pass, where not all do.
    `task.data`: see `judge`; `question`, `limit`, and `solution` where there is one.

    tries: answers that may be given.  Of a wrong one before the last the policy reads what the first shown test that fails gave.
    """

    def __init__(self, *, tries: int = 1, partial: float = 0.0, limits: Limits = LIMITS) -> None:
        if tries < 1 or not 0 <= partial < 1:
            raise ValueError(f"CodeProblem(tries={tries}, partial={partial}): tries must be 1 or more, partial from 0 to under 1")
        super().__init__()
        self._tries, self._partial, self._limits = tries, partial, limits

    def start(self, task: Task) -> tuple[str, ...]:
        return ()

    def prompt(self) -> str:
        return str(self.task.data["question"])

    async def answer(self, action: Action) -> Transition:
        verdict = await judge(program_of(answer_text(action), self.task.data), self.task.data, self._limits)
        shown = len(self.task.data["shown"])
        hidden = list(verdict.passed[shown:])
        info = {"success": verdict.all_passed, "hidden_passed": sum(hidden), "shown_passed": sum(verdict.passed[:shown])}
        if not verdict.all_passed and len(self.state) + 1 < self._tries:
            self.state = (*self.state, feedback(verdict, self.task.data))
            return Transition(Observation.of(self.state[-1]), info=info)
        reward = {"correct": float(verdict.all_passed)}
        if self._partial and not verdict.all_passed:
            reward["share"] = self._partial * sum(hidden) / max(len(hidden), 1)
        return Transition(reward=reward, terminated=True, info=info)

    def oracle(self) -> Action:
        """The solution that came with the problem.  Raises LookupError where none did."""
        solution = self.task.data.get("solution")
        if solution is None:
            raise LookupError(f"{self.task.id} comes without a solution")
        text = f"```python\n{solution}\n```"
        return Action(text, answer=text)

    @staticmethod
    def tasks() -> TaskSource:
        return TaskList([])


def program_of(text: str, data: Any) -> str:
    """The program in an answer; a mere body goes on from the question's own beginning (`begun`)."""
    blocks = FENCE.findall(text)
    program = str(blocks[-1] if blocks else text)
    begun = str(data.get("begun", ""))
    whole = f"{begun}\n{program}" if begun else program
    if begun and not re.search(rf"^def {data['entry']}\b", program, re.MULTILINE):
        return begun + (program if program[:1].isspace() else f"    {program}")
    return whole


def feedback(verdict: Verdict, data: Any) -> str:
    """What the policy reads of a wrong answer: never anything of a hidden test."""
    if verdict.problem:
        return f"It could not be run:\n{verdict.problem}\nAnswer with the whole program again."
    for passed, (kind, text), (arguments, expected) in zip(verdict.passed, verdict.said, data["shown"], strict=False):
        if not passed:
            got = f"raises {text}" if kind != "value" else f"gives {text:.300}"
            return f"{data['entry']}{_written(arguments)} {got}, expected {expected}. Answer with the whole program again."
    return HIDDEN


def _written(arguments: str) -> str:
    """
    >>> _written("([1], 2)"), _written("(3,)")
    ('([1], 2)', '(3)')
    """
    values = ast.literal_eval(arguments)
    return f"({', '.join(map(repr, values))})"
