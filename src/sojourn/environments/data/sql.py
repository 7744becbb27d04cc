"""Text to SQL: a question about a database, a tool that runs queries, and an answer that is a query.

The one idea: the answer is judged by what it gives, not by how it is written (execution match), and on a database that the policy cannot
see, too.  After Spider (Yu et al., arXiv 1809.08887) and, for turns with feedback, InterCode (Yang et al., arXiv 2306.14898).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sojourn.core import Action, Observation, Task, ToolResult, Transition
from sojourn.environments.data.database import Database, QueryError, same_result
from sojourn.environments.data.generated import scripts, sql_tasks
from sojourn.environments.small.common import DrawnTasks, SmallWorld, refuse
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import ToolError, tool

FENCE = re.compile(r"```(?:sql|sqlite)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
SHOWN = 10

Scripts = Callable[[Mapping[str, Any]], Sequence[str]]
"""From a task's data to the scripts of its databases: the first is shown, an answer must be right in all."""


class TextToSql(SmallWorld[tuple[str, ...]]):
    """Tool `sql`; the state is what it has given so far, and what was said to wrong answers.

    Reward: `correct`, 1 or 0, paid for the answer that ends the episode: a query, alone or in a fenced block.  An answer that cannot be
    run costs a turn, and why is told.  After `limit` actions the episode is truncated.
    `task.data`: `question`, `gold` (a query), `ordered` (whether the order of rows counts), `limit`, and what `scripts` reads.

    tries: answers that may be given.  Of a wrong one before the last it is told that its result is not the right one.
    """

    def __init__(self, *, scripts: Scripts = scripts, tries: int = 1, example: ActionProtocol | None = None) -> None:
        super().__init__((tool(self.sql),), example=example)
        self._scripts, self._tries = scripts, tries
        self._databases: list[Database] = []

    def sql(self, query: str) -> str:
        """runs a query"""
        try:
            columns, rows = self._databases[0].run(_plain(query))
        except QueryError as error:
            raise ToolError(f"Error: {error}") from error
        more = [f"... {len(rows) - SHOWN} more rows"] if len(rows) > SHOWN else []
        return "\n".join([" | ".join(columns), *(" | ".join(map(str, row)) for row in rows[:SHOWN]), *more])

    def start(self, task: Task) -> tuple[str, ...]:
        self._release()
        self._databases = [Database(script) for script in self._scripts(task.data)]
        return ()

    def prompt(self) -> str:
        made = self._databases[0].run("SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL").rows
        return "\n".join([*(f"{sql};" for (sql,) in made), f"{self.task.data['question']} Answer with a query for SQLite."])

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        self.state = (*self.state, *(result.text for result in results))
        return await super().observe(results)

    async def answer(self, action: Action) -> Transition:
        query = _plain(answer_text(action))
        try:
            correct = await asyncio.to_thread(self._right, query)
        except QueryError as error:
            return refuse(f"Error: {error}")
        self.state = (*self.state, WRONG)
        if correct or self.state.count(WRONG) >= self._tries:
            return Transition(reward={"correct": float(correct)}, terminated=True, info={"success": correct})
        return Transition(Observation.of(WRONG))

    def oracle(self) -> Action:
        return Action("", answer=self.task.data["gold"])

    async def close(self) -> None:
        self._release()

    def _right(self, query: str) -> bool:
        ordered = self.task.data["ordered"]
        return all(
            same_result(database.run(query).rows, database.run(self.task.data["gold"]).rows, ordered=ordered)
            for database in self._databases
        )

    def _release(self) -> None:
        for database in self._databases:
            database.close()
        self._databases = []

    @staticmethod
    def tasks() -> DrawnTasks:
        """Questions about generated databases; see `generated`."""
        return sql_tasks()


WRONG = "Wrong: its result is not the right one. Try again."


def sql_world(*, tries: int = 1, example: ActionProtocol | None = None) -> World:
    """Generated databases and questions; see `TextToSql`."""
    return World(partial(TextToSql, tries=tries, example=example), sql_tasks())


def _plain(text: str) -> str:
    """The query in a text: what the last fenced block holds, else all of it."""
    blocks = FENCE.findall(text)
    return str(blocks[-1] if blocks else text).strip()
