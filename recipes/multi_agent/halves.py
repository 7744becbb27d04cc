"""The world of `two_halves.py`: two write one program, a helper and what calls it; tests of both together judge it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from random import Random
from statistics import mean
from typing import Any, Literal

from sojourn.core import Action, JointTransition, MultiAgentEnvironment, Observation, Task, total
from sojourn.environments import TaskList

TERMS = [term for k in range(2, 10) for term in (f"{k}*x", f"x%{k}", f"x//{k}", f"{k}-x")]
INPUTS = (17, 23, 38, 59, 94)
HELD_OUT = 240
MOST = 4.0
"""Of the joint reward."""
_ATOM = r"(?:x|0|[1-9]\d*)"
_SUM = r"{0}(?: ?(?:[-+*%]|//) ?{0})*"
FORM = {
    name: re.compile(rf"def {name}\(x\): return " + _SUM.format(atom))
    for name, atom in (("aux", _ATOM), ("main", rf"(?:{_ATOM}|aux\(x\))"))
}
"""What is run: sums of x, numbers and, in `main`, the helper.  Nothing else that a model writes is."""


def results(aux: str, main: str) -> list[int | None]:
    """What `main` gives for each input of the tests, beside the helper; None where it fails."""
    scope: dict[str, Any] = {"__builtins__": {}}
    exec(f"{aux}\n{main}", scope)  # both have the form above
    found: list[int | None] = []
    for x in INPUTS:
        try:
            found.append(scope["main"](x))
        except (ZeroDivisionError, NameError):  # of a helper that is missing
            found.append(None)
    return found


def share(aux: str, main: str, wanted: str) -> float:
    """Share of the tests that the two pass."""
    right = results("", f"def main(x): return {wanted}")
    return mean(one == other for one, other in zip(results(aux, main), right, strict=True))


def joint(aux: str, main: str, wanted: str) -> dict[str, float]:
    """The paper's reward for code: 4 for a helper that is used and tests that pass.  (Its fine for a helper whose value is dropped has no
    place here: a sum uses what it calls.)"""
    reward = {"aux": 0.4 * aux.startswith("def aux(x):"), "main": 0.6 * main.startswith("def main(x):")}
    if not reward["main"] or not (FORM["aux"].fullmatch(aux) and FORM["main"].fullmatch(main)):
        return reward
    reward |= {"parses": 0.5, "tests": share(aux, main, wanted)}
    if reward["tests"] and "aux(x)" in main:
        reward |= {"calls": 0.5, "adds": 1.0 * (main != "def main(x): return aux(x)")}
    return reward


def own(aux: str, main: str, wanted: str) -> dict[str, dict[str, float]]:
    """The control: each half is paid for itself, beside the other half that suits it best."""
    terms = wanted.split(" + ")
    mains = [joint(aux, f"def main(x): return aux(x) + {term}", wanted) for term in terms]
    helpers = [joint(f"def aux(x): return {term}", main, wanted) for term in terms]
    return {"helper": max(mains, key=total), "main": max(helpers, key=total)}


class Halves(MultiAgentEnvironment):
    """One joint action, and its tests."""

    agents = ("helper", "main")

    def __init__(self, pay: Literal["joint", "own"] = "joint") -> None:
        self.pay = pay

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self.wanted = task.data["sum"]
        return {agent: Observation.of(prompt(self.wanted, agent)) for agent in self.agents}

    def acting(self) -> tuple[str, ...]:
        return self.agents

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        halves = actions["helper"].text, actions["main"].text
        earned = joint(*halves, self.wanted)
        rewards = own(*halves, self.wanted) if self.pay == "own" else dict.fromkeys(self.agents, earned)
        info = {"success": total(earned) == MOST, "share": total(earned) / MOST}
        return JointTransition(rewards=rewards, terminated=True, info=info)


def prompt(wanted: str, agent: str) -> str:
    return f"{wanted}\n{agent}"


def sums() -> TaskList:
    """Sums of two terms, in either order; pairs that are held out are so in both."""
    pairs = list(combinations(TERMS, 2))
    Random(0).shuffle(pairs)
    return TaskList(*(_both_orders(part) for part in (pairs[HELD_OUT:], pairs[:HELD_OUT])))


def _both_orders(pairs: list[tuple[str, str]]) -> list[Task]:
    texts = [" + ".join(pair) for one, other in pairs for pair in ((one, other), (other, one))]
    Random(1).shuffle(texts)
    return [Task(text, {"sum": text}) for text in texts]
