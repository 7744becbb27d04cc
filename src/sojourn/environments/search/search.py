"""Questions over a corpus of real documents, and a search engine: one hop or two.

The one idea: what was found is the whole state, and it is text.  Which documents an answer needs is known (`corpus.questions`), so a
run tells whether they were found apart from whether the answer is right.

After Search-R1 (Jin et al., arXiv 2503.09516): `search` gives the best passages, the answer is judged by exact match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from sojourn.core import Action, Task, ToolCall, ToolResult, Transition, named
from sojourn.environments.search.corpus import Document, SearchTasks, questions, wikipedia
from sojourn.environments.search.retrieval import Bm25, Retriever
from sojourn.environments.small.common import SmallWorld
from sojourn.environments.small.kb_search import normal
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import tool


class Search(SmallWorld[tuple[str, ...]]):
    """Tool `search`; the state is what it has given so far.

    Reward: `correct`, 1 or 0, paid for the answer that ends the episode; `found`, if `found` pays, for each needed document that
    comes to sight.  After the task's `limit` of actions the episode is truncated.  `info["found"]`: the share of needed documents seen.
    `task.data`: see `SearchTasks`.

    shown: passages of a search.  words: words of a passage at most.
    found: what finding all needed documents pays together; above 0 it can be farmed without an answer.
    examples: the task of each level that is shown solved first, written in the protocol `example`.
    timeout_s: deadline of a search; past it the infrastructure is at fault.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        shown: int = 3,
        words: int = 60,
        found: float = 0.0,
        examples: Mapping[str, Task] | None = None,
        example: ActionProtocol | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        super().__init__((tool(self.search, timeout_s=timeout_s),), example=example)
        self._retriever, self._shown, self._words = retriever, shown, words
        self._found_pays, self._examples = found, examples or {}

    def search(self, query: str) -> str:
        """finds passages"""
        passages = [document.passage(self._words) for document in self._retriever(query, self._shown)]
        return "\n".join(passages) or "Nothing found."

    def start(self, task: Task) -> tuple[str, ...]:
        return ()

    def prompt(self) -> str:
        return str(self.task.data["question"])

    def example_task(self, task: Task) -> Task:
        if task.level not in self._examples:
            raise ValueError(f"no example of level '{task.level}': give Search(examples=...), such as the tasks' `examples`")
        return self._examples[task.level]

    async def step(self, action: Action) -> Transition:
        before = self._share()
        transition = await super().step(action)
        share = self._share()
        paid = {"found": self._found_pays * (share - before)} if self._found_pays and share > before else {}
        reward = {**(named(transition.reward) if transition.reward else {}), **paid}
        return replace(transition, reward=reward, info={**transition.info, "found": share})

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        self.state = (*self.state, *(result.text for result in results))
        return await super().observe(results)

    async def answer(self, action: Action) -> Transition:
        correct = normal(answer_text(action)) in {normal(answer) for answer in self.task.data["answers"]}
        return Transition(reward={"correct": float(correct)}, terminated=True, info={"success": correct})

    def oracle(self) -> Action:
        """Search for what leads to the documents, then answer.  Raises LookupError for questions that do not say what to search for."""
        queries = self.task.data["queries"]
        if not queries:
            raise LookupError("this question comes without queries")
        if len(self.state) < len(queries):
            return Action("", (ToolCall("search", {"query": queries[len(self.state)]}),))
        return Action("", answer=self.task.data["answers"][0])

    def _share(self) -> float:
        """The share of the needed documents that have been seen: a passage begins with the title."""
        seen = "\n".join(("", *self.state))
        gold = self.task.data["gold"]
        return sum(f"\n{title}: " in seen or f"\n{title} (" in seen for title in gold) / max(len(gold), 1)

    @staticmethod
    def tasks() -> SearchTasks:
        """The questions of the Wikipedia summaries; `search_world` takes other documents."""
        return _wikipedia()[1]


def search_world(
    documents: Sequence[Document],
    *,
    retriever: Retriever | None = None,
    tasks: SearchTasks | None = None,
    example: ActionProtocol | None = None,
    shown: int = 3,
    words: int = 60,
    found: float = 0.0,
) -> World:
    """The world of these documents; see `Search`.

    retriever: what searches them; BM25 by default.  tasks: the questions; those that the documents give by default.
    example: shows one solved question of the task's level first, in this protocol.
    """
    tasks = tasks or questions(documents)
    retriever = retriever or Bm25(documents)
    make = partial(Search, retriever, shown=shown, words=words, found=found, examples=tasks.examples, example=example)
    return World(make, tasks)


def wikipedia_world(*, example: ActionProtocol | None = None, shown: int = 3, words: int = 60, found: float = 0.0) -> World:
    """The 10,033 summaries, their questions, BM25.  Raises ImportError with the command if the corpus is not installed."""
    documents, tasks, retriever = _wikipedia()
    return search_world(documents, retriever=retriever, tasks=tasks, example=example, shown=shown, words=words, found=found)


@cache
def _wikipedia() -> tuple[Sequence[Document], SearchTasks, Bm25]:
    documents = wikipedia()
    return documents, questions(documents), Bm25(documents)
