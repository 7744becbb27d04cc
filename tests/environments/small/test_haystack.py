"""Haystack: the text says the answer once, only the end is judged, any length works."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import play, play_out, say, solved

from sojourn.core import Task
from sojourn.environments.small.haystack import Haystack

INDICES = st.integers(0, 10**4)


def read(task: Task) -> str:
    """All that a policy gets to see."""
    texts = [asyncio.run(Haystack().reset(task, seed=0)).messages[0].text]
    for transition in play(Haystack(), task, lambda _, __: say("go on"), most=1000):
        texts += [message.text for message in transition.observation.messages]
    return "\n".join(texts)


@given(st.sampled_from([1, 2]), st.sampled_from(["1", "2", "8"]), INDICES)
def test_the_text_says_the_answer_exactly_once(hops: int, level: str, index: int) -> None:
    task = Haystack.tasks(hops=hops).task("test", level, index)
    seen = read(task)
    name = re.search(r"(\w+)\?", seen)[1]
    if hops == 2:
        (name,) = re.findall(rf"The friend of {name} is (\w+)\.", seen)
    (code,) = re.findall(rf"The code of {name} is (\d+)\.", seen)
    assert code == task.data["answer"]
    assert seen.count("The code of ") + seen.count("The friend of ") == 10 * int(level)


def test_what_is_said_before_the_end_is_not_judged() -> None:
    task = Haystack.tasks().task("train", "2", 0)
    answer = say(task.data["answer"])
    first, second = play_out(Haystack(), task, answer, answer)
    assert not first.terminated and not second.terminated and first.reward == second.reward == 0
    assert play_out(Haystack(), task, answer, say("x"), say("no idea"))[-1].reward == {"correct": 0.0}


@pytest.mark.parametrize(
    ("form", "right"), [("{}", True), ("It is {}.", True), ("{} or 1", False), ("{}{}", False), ("1{}", False), ("", False)]
)
def test_the_answer_is_one_number(form: str, right: bool) -> None:
    task = Haystack.tasks().task("train", "1", 0)
    assert solved(play_out(Haystack(), task, say("next"), say(form.format(task.data["answer"], task.data["answer"])))) is right


def test_all_the_codes_at_once_are_wrong() -> None:
    task = Haystack.tasks().task("train", "1", 0)
    assert not solved(play_out(Haystack(), task, say("next"), say(" ".join(re.findall(r"is (\d+)", read(task))))))


def test_any_length_works_and_its_names_differ() -> None:
    task = Haystack.tasks(parts=(300,)).task("train", "300", 0)
    names = re.findall(r"code of (\w+) is", read(task))
    assert len(names) == len(set(names)) == 3000
    assert solved(play(Haystack(), task, lambda world, _: world.oracle(), most=400))


@pytest.mark.parametrize("settings", [{"hops": 3}, {"hops": 2, "facts": 1}])
def test_what_cannot_be_asked_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or 2 hops"):
        Haystack.tasks(**settings)
