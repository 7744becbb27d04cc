"""The world of `r_zero.py`: sums, which anybody may ask, and whose answers are held to a label that need not be true."""

from __future__ import annotations

import re
from random import Random

from sojourn.core import Action, Environment, Observation, Task, Transition

ASK = "ask"
"""What the challenger reads."""
QUESTION = re.compile(r"[1-9]\d{0,2}\+[1-9]\d{0,2}")
HELD_OUT = [f"{10 + n // 90}+{10 + n % 90}" for n in Random(0).sample(range(8100), 300)]
"""Of 8100 sums of two numbers with two digits."""
NEVER = {text for question in HELD_OUT for text in (question, "+".join(question.split("+")[::-1]))}
"""What is not trained on: those, in either order."""


def truth(question: str) -> str:
    return str(sum(map(int, question.split("+"))))


def task(question: str, label: str | None = None) -> Task:
    return Task(question, {"question": question, "label": label})


class Sums(Environment):
    """One question, one answer, paid if there is a label to hold it to."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.label = task.data.get("label")
        return Observation.of(task.data["question"])

    async def step(self, action: Action) -> Transition:
        right = action.text == self.label
        reward = {"accuracy": 0.9 * right, "format": 0.1 * action.text.isdigit()} if self.label else {}
        return Transition(reward=reward, terminated=True, info={"success": right, "answer": action.text})
