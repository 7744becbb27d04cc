"""Questions over a made-up encyclopedia, and a search engine: the answer is one to four facts away.

The one idea: every task has people, cities, firms and countries of its own, with names that mean nothing, so nothing can be known
without searching.  A question of h hops, such as `the birthplace of the founder of Dunor`, needs h passages, each named by the one
before.  The passages of all other entities are distractors.  Retrieval is BM25 of SQLite's full-text index (FTS5).

After Search-R1 (Jin et al., arXiv 2503.09516): `search` gives the three best passages, the answer is judged by exact match.  `noise`
is ZeroSearch's (arXiv 2505.04588), several questions at once are MEM1's (arXiv 2506.15841).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Task, ToolCall, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import tool

SHOWN = 3


class Relation(NamedTuple):
    """`kind` has one of these, of kind `of`; `told` is how a passage says it."""

    name: str
    kind: str
    of: str
    told: str


RELATIONS = (
    Relation("birthplace", "person", "city", "was born in {}"),
    Relation("employer", "person", "firm", "works for {}"),
    Relation("teacher", "person", "person", "learned from {}"),
    Relation("founder", "firm", "person", "was founded by {}"),
    Relation("seat", "firm", "city", "has its seat in {}"),
    Relation("mayor", "city", "person", "is led by mayor {}"),
    Relation("country", "city", "country", "lies in {}"),
    Relation("capital", "country", "city", "has the capital {}"),
    Relation("ruler", "country", "person", "is ruled by {}"),
)
SHARES = {"person": 4, "firm": 2, "city": 2, "country": 1}
"""How many of each kind, times `size`."""

Facts = Mapping[str, Mapping[str, str]]


class KbSearch(SmallWorld[tuple[str, ...]]):
    """Tool `search`; the state is what was searched for so far.

    Reward: `correct`, the fraction of questions whose answer is right, paid for the answer that ends the episode; success is all.
    Several questions are answered in order, with semicolons.  After twice the searches that are needed, and two more actions, the
    episode is truncated.
    `task.data`: `kb` (the seed of the encyclopedia), `size`, `questions`, `answers`, `chains` (the entities on the way), `limit`.

    noise: probability that a passage found is replaced by a random one; 1 is the control in which searching is useless.
    """

    def __init__(self, *, noise: float = 0.0, example: ActionProtocol | None = None) -> None:
        super().__init__((tool(self.search, quick=True),), example=example)
        self._noise = noise
        self._index: Index | None = None

    def search(self, query: str) -> str:
        """finds passages"""
        assert self._index is not None
        rng = Random(f"{self.seed}/{len(self.state)}/{query}")
        found = self._index.search(query, SHOWN)
        noisy = [rng.choice(self._index.passages) if rng.random() < self._noise else passage for passage in found]
        self.state = (*self.state, query)
        return "\n".join(noisy) or "Nothing found."

    def start(self, task: Task) -> tuple[str, ...]:
        self._release()
        facts = encyclopedia(task.data["kb"], task.data["size"])
        self._index = Index({name: passage(name, facts[name]) for name in facts})
        return ()

    def prompt(self) -> str:
        questions = self.task.data["questions"]
        order = " Answer in this order, with ; between." if len(questions) > 1 else ""
        return f"Answer with a name. Search first.{order} {' '.join(questions)}"

    async def answer(self, action: Action) -> Transition:
        said = [normal(part) for part in answer_text(action).split(";")]
        right = [normal(answer) for answer in self.task.data["answers"]]
        same = [given == wanted for given, wanted in zip(said, right, strict=False)] if len(said) == len(right) else []
        correct = sum(same) / len(right)
        return Transition(reward={"correct": correct}, terminated=True, info={"success": correct == 1})

    def oracle(self) -> Action:
        """Search for the entities on the way, one after the other; then answer."""
        for name in (name for chain in self.task.data["chains"] for name in chain[:-1]):
            if name not in self.state:
                return Action("", (ToolCall("search", {"query": name}),))
        return Action("", answer="; ".join(self.task.data["answers"]))

    async def close(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._index is not None:
            self._index.close()
        self._index = None

    @staticmethod
    def tasks(*, size: int = 4, questions: int = 1, kb: int | None = None) -> DrawnTasks:
        """Levels are the number of hops.

        size: the encyclopedia has nine entities for each; raising it makes more distractors.
        questions: how many each task asks at once.
        kb: a seed: all tasks are about this one encyclopedia, which can then be learned by heart.
        """
        return DrawnTasks("kb_search", ("1", "2", "3", "4"), partial(draw, size=size, questions=questions, kb=kb), content)


class Index:
    """BM25 over passages by name; a word of the name counts five times one of the text."""

    def __init__(self, passages: Mapping[str, str]) -> None:
        self.passages = list(passages.values())
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(name, text)")
        self._database.executemany("INSERT INTO passages VALUES (?, ?)", passages.items())

    def search(self, query: str, count: int) -> list[str]:
        """The best passages that share a word with the query, best first; whatever the query says, it is words and no syntax."""
        return [self.passages[i] for i in self.find(query, count)]

    def find(self, query: str, count: int) -> list[int]:
        """The same as positions in the mapping's order."""
        words = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query)[:50]))
        if not words:
            return []
        rows = self._database.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 5.0, 1.0), rowid LIMIT ?", (words, count)
        )
        return [row - 1 for (row,) in rows]

    def close(self) -> None:
        self._database.close()


def encyclopedia(kb: int, size: int) -> Facts:
    """For each entity, the entity that each relation leads to.  The order says nothing."""
    rng = Random(f"encyclopedia {kb}")
    names = iter(made_up(rng, size * sum(SHARES.values())))
    kinds = {kind: [next(names) for _ in range(share * size)] for kind, share in SHARES.items()}
    facts: dict[str, dict[str, str]] = {}
    for kind, members in kinds.items():
        for name in members:
            own = [relation for relation in RELATIONS if relation.kind == kind]
            facts[name] = {r.name: rng.choice([other for other in kinds[r.of] if other != name]) for r in own}
    return dict(rng.sample(list(facts.items()), len(facts)))


def passage(name: str, facts: Mapping[str, str]) -> str:
    """`Dunor was founded by Kelu, has its seat in Lopata.`"""
    told = {relation.name: relation.told for relation in RELATIONS}
    return f"{name} {', '.join(told[relation].format(other) for relation, other in facts.items())}."


def draw(rng: Random, level: str, *, size: int, questions: int, kb: int | None) -> dict[str, Any]:
    kb = rng.randrange(10**9) if kb is None else kb
    facts = encyclopedia(kb, size)
    asked = [_chain(rng, facts, int(level)) for _ in range(questions)]
    return {
        "kb": kb,
        "size": size,
        "questions": [question for question, _ in asked],
        "answers": [chain[-1] for _, chain in asked],
        "chains": [chain for _, chain in asked],
        "limit": 2 * int(level) * questions + 2,
    }


def content(data: Mapping[str, Any]) -> object:
    return data["questions"], data["answers"]


def normal(text: str) -> str:
    """Case, punctuation and articles do not count.

    >>> normal("The Lopata. ")
    'lopata'
    """
    return " ".join(word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the"))


def _chain(rng: Random, facts: Facts, hops: int) -> tuple[str, list[str]]:
    """A question, and the entities from its name to its answer; none comes twice."""
    while True:
        chain, path = [rng.choice(list(facts))], list[str]()
        for _ in range(hops):
            relation, other = rng.choice(list(facts[chain[-1]].items()))
            path.append(relation)
            chain.append(other)
        if len(set(chain)) == hops + 1:
            asked: Sequence[str] = [f"the {relation} of" for relation in reversed(path)]
            return f"What is {' '.join(asked)} {chain[0]}?", chain
