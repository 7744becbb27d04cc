"""An environment whose actions are tool calls and an answer.

The one idea: `step` is the same for all of them (tell a fault, run the calls, else judge the answer), so that a subclass writes
`reset` and `answer` only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from sojourn.core import Action, Environment, Observation, ToolCall, ToolResult, Transition, user
from sojourn.environments.answer import answer_text
from sojourn.tools import Tool, run_calls


class ToolEnvironment(Environment):
    """Runs tool calls in `step`; hands every other action to `answer`.

    A malformed action costs a turn: the policy reads what was wrong and the episode goes on.  `info["tool_calls"]` counts the
    calls that were run.  A subclass that gives itself tools per task calls `equip` in `reset`.

    patience: so many malformed actions in a row end the episode.
    """

    def __init__(self, tools: Sequence[Tool] = (), *, patience: int = 3) -> None:
        self.equip(tools)
        self.tool_calls = 0
        self._patience = patience
        self._faults = 0

    def equip(self, tools: Sequence[Tool]) -> None:
        """Offer these tools from now on."""
        self._tools = tuple(tools)
        self.tools = tuple(tool.spec for tool in tools)

    @abstractmethod
    async def answer(self, action: Action) -> Transition:
        """Judge an action without calls: usually the end.  `answer_text(action)` is what was said."""

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        """What the policy gets for its calls: their results, one message each, nothing paid."""
        failures = tuple(result.failure for result in results if result.failure)
        return Transition(Observation.of([result.message() for result in results]), failures=failures)

    async def run(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        """Run the calls of one action: side by side."""
        return await run_calls(self._tools, calls)

    async def step(self, action: Action) -> Transition:
        self._faults = self._faults + 1 if action.fault is not None else 0
        if action.fault is not None:
            over = self._faults >= self._patience
            transition = Transition(Observation.of(user(action.fault.message)), terminated=over, failures=(action.fault,))
        elif action.calls:
            results = await self.run(action.calls)
            self.tool_calls += len(results)
            transition = await self.observe(results)
        else:
            transition = await self.answer(action)
        return replace(transition, info={**transition.info, "tool_calls": self.tool_calls})

    async def close(self) -> None:
        for tool in self._tools:
            await tool.close()


__all__ = ["ToolEnvironment", "answer_text"]
