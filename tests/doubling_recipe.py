"""A recipe whose world wants one tool call and then its result: small enough for an engine of a few lines to solve."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from sojourn.core import Action, Observation, Task, Transition
from sojourn.curriculum import Uniform
from sojourn.engine import Completion, SamplingParams
from sojourn.environments import TaskList, ToolEnvironment, answer_text
from sojourn.rendering import ChatRenderer, JsonTags
from sojourn.tools import tool
from sojourn.training import Experiment, TrainConfig


@tool
def double(number: int) -> int:
    """Twice a number.

    Args:
        number: Which.
    """
    return 2 * number


class Doubling(ToolEnvironment):
    """The answer must be what the tool says, and the tool must have been called."""

    def __init__(self) -> None:
        super().__init__((double,))

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._number = task.data["number"]
        return Observation.of(f"Use the tool: double {self._number}")

    async def answer(self, action: Action) -> Transition:
        right = self.tool_calls > 0 and answer_text(action) == str(2 * self._number)
        return Transition(reward=float(right), terminated=True)


class Doubler:
    """An engine that plays it: it calls the tool, then says its result."""

    max_context, version, sampled_tokens, computed_tokens = 4000, 0, 0, 0

    def __init__(self, renderer: ChatRenderer) -> None:
        self.renderer = renderer
        self.seen: list[str] = []

    async def sample(self, tokens: Any, params: SamplingParams) -> Completion:
        text = str(self.renderer.tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=False))
        self.seen.append(text)
        asked = re.findall(r"double (\d+)", text)[-1]
        told = text.rpartition("<|im_start|>")[0].rpartition("<|im_start|>")[2]
        result = re.fullmatch(r"(?:tool|user)\n(\d+)<\|im_end\|>\n", told)
        say = result[1] if result else f'I call. <tool_call>{{"name": "double", "arguments": {{"number": {asked}}}}}</tool_call>'
        said = self.renderer.as_sampled(say)
        return Completion(np.asarray(said), np.zeros(len(said), np.float32), "stop", 0, said[-1] in self.renderer.ends)

    async def close(self) -> None:
        """There is nothing to give back."""


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """Nothing of its own."""


def experiment(config: Config) -> Experiment:
    tasks = TaskList(
        *([Task(f"{split}/{n}", {"number": n}) for n in numbers] for split, numbers in (("a", (3, 4)), ("b", (21, 50))))
    )
    return Experiment(environment=Doubling, tasks=tasks, protocol=JsonTags(), curriculum=Uniform(tasks))
