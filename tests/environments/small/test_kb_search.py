"""Search: the answer can be found by searching alone, and only the exact one is right."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import call, oracle, play, play_out, say, solved

from sojourn.core import Action, Observation
from sojourn.environments.small.kb_search import Index, KbSearch, encyclopedia, passage

TOLD = {
    "birthplace": "born in", "employer": "works for", "teacher": "learned from", "founder": "founded by", "seat": "its seat in",
    "mayor": "led by mayor", "country": "lies in", "capital": "the capital", "ruler": "ruled by",
}  # fmt: skip
INDICES = st.integers(0, 10**4)
LEVELS = st.sampled_from(["1", "2", "3", "4"])


class Reader:
    """Solves a question from what it can see: the words of the question, and the passages found."""

    def __call__(self, _: Any, observation: Observation) -> Action:
        text = observation.messages[-1].text
        if question := re.search(r"What is (.*) (\w+)\?$", text):
            self.relations, self.name = re.findall(r"the (\w+) of", question[1]), question[2]
        else:
            own = next(line for line in text.splitlines() if line.startswith(f"{self.name} "))
            (self.name,) = re.findall(rf"{TOLD[self.relations.pop()]} (\w+)", own)
        return call("search", query=self.name) if self.relations else say(self.name)


@given(LEVELS, INDICES)
def test_who_reads_and_searches_finds_the_answer_in_as_many_searches_as_hops(level: str, index: int) -> None:
    transitions = play(KbSearch(), KbSearch.tasks().task("train", level, index), Reader())
    assert transitions[-1].reward == {"correct": 1.0} and transitions[-1].info["tool_calls"] == int(level)


@given(LEVELS, INDICES)
def test_no_name_on_the_way_is_the_answer(level: str, index: int) -> None:
    task = KbSearch.tasks().task("test", level, index)
    (chain,) = task.data["chains"]
    for name in chain[:-1]:
        assert not solved(play_out(KbSearch(), task, say(name)))
    assert solved(play_out(KbSearch(), task, say(chain[-1])))


@pytest.mark.parametrize("form", ["{}", "the {}.", " {} ", '"{}"'])
def test_case_articles_and_punctuation_do_not_count(form: str) -> None:
    task = KbSearch.tasks().task("train", "2", 0)
    assert solved(play_out(KbSearch(), task, say(form.format(task.data["answers"][0].upper()))))


@pytest.mark.parametrize("form", ["{0} {1}", "{0}; {1}", "{0} or {1}", "not {0}", "It is {0}", "", "{0}{0}"])
def test_an_answer_with_more_than_the_name_is_wrong(form: str) -> None:
    task = KbSearch.tasks().task("train", "2", 0)
    assert not solved(play_out(KbSearch(), task, say(form.format(task.data["answers"][0], task.data["chains"][0][0]))))


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_a_query_is_words_and_never_syntax(query: str) -> None:
    (transition,) = play_out(KbSearch(), KbSearch.tasks().task("train", "1", 0), call("search", query=query))
    assert not transition.failures


@pytest.mark.parametrize("query", ['" OR "', "NEAR(a b)", "name:x AND *", "'; DROP TABLE passages; --", "()", "a" * 5000])
def test_operators_of_the_index_do_nothing(query: str) -> None:
    (transition,) = play_out(KbSearch(), KbSearch.tasks().task("train", "1", 0), call("search", query=query))
    assert not transition.failures


def test_the_passage_of_a_name_comes_first_and_rare_words_count_more() -> None:
    facts = encyclopedia(5, 4)
    index = Index({name: passage(name, facts[name]) for name in facts})
    assert all(index.search(name, 3)[0] == passage(name, facts[name]) for name in facts)
    firm, person = (next(n for n in facts if word in facts[n]) for word in ("founder", "teacher"))
    assert index.search(f"who works for and is born in and founded by {firm}", 3)[0].startswith(firm)
    assert index.search("zzz", 3) == [] and person in facts
    index.close()


def test_several_questions_are_answered_in_order_and_each_pays_its_share() -> None:
    task = KbSearch.tasks(questions=4).task("train", "1", 0)
    right = task.data["answers"]
    assert solved(play(KbSearch(), task, oracle)) and solved(play_out(KbSearch(), task, say(";".join(right))))
    wrong = [*right[:2], "nobody", right[3]]
    assert play_out(KbSearch(), task, say("; ".join(wrong)))[-1].reward == {"correct": 0.75}
    assert play_out(KbSearch(), task, say("; ".join(right[:3])))[-1].reward == {"correct": 0.0}
    assert not solved(play_out(KbSearch(), task, say("; ".join([*right, *right]))))


def test_noise_replaces_passages_by_seed_and_none_leaves_them() -> None:
    task = KbSearch.tasks().task("train", "1", 0)
    ask = call("search", query=task.data["chains"][0][0])

    def found(noise: float, seed: int) -> str:
        return play_out(KbSearch(noise=noise), task, ask, seed=seed)[0].observation.messages[0].text

    assert found(0.0, 1) == found(0.0, 2)
    assert found(1.0, 1) == found(1.0, 1) != found(1.0, 2)
    names = [found(1.0, seed).split()[0] for seed in range(60)]
    assert names.count(task.data["chains"][0][0]) < 10  # one of 36 by chance


def test_one_encyclopedia_for_all_tasks_keeps_the_splits_apart() -> None:
    source = KbSearch.tasks(kb=3)
    train, test = ({tuple(source.task(s, "2", i).data["questions"]) for i in range(60)} for s in ("train", "test"))
    assert not train & test and source.task("train", "1", 0).data["kb"] == source.task("test", "4", 9).data["kb"] == 3


def test_a_closed_world_can_be_reset_again() -> None:
    async def run() -> bool:
        world, task = KbSearch(), KbSearch.tasks().task("train", "1", 0)
        await world.reset(task, seed=0)
        await world.reset(task, seed=0)
        await world.close()
        await world.reset(task, seed=0)
        found = await world.step(call("search", query=task.data["chains"][0][0]))
        await world.close()
        return not found.failures

    assert asyncio.run(run())
