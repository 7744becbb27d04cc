"""Sessions: the memory is judged by what it says of every fact that ever was."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import call, oracle, play, play_out, say, solved

from sojourn.core import Action, Observation, Task
from sojourn.environments.small.sessions import BOTH, UNKNOWN, Sessions, read

LEVELS = st.sampled_from(["4", "8", "16", "32"])
INDICES = st.integers(0, 10**4)
STORY = Task(
    "t",
    {
        "events": [
            ["new", "Ana lives in rome.", "Ana", "city", "rome"],
            ["irrelevant", "It rains today."],
            ["new", "Ana likes tea.", "Ana", "drink", "tea"],
            ["changed", "From now on Ana lives in oslo.", "Ana", "city", "oslo"],
            ["deleted", "It is over: Ana likes tea no more.", "Ana", "drink", UNKNOWN],
        ],
        "limit": 11,
    },
    "4",
)
RIGHT = (
    call("add", text="Ana lives in rome"), say("nothing"), call("add", text="Ana likes tea"),
    call("update", id=1, text="Ana lives in oslo"), call("delete", id=2),
)  # fmt: skip


def words_of(event: str) -> tuple[str, str, str]:
    """Person, phrase and value, from the words of an event alone."""
    found = re.search(r"(\w+) (lives in|likes|works as|has a) (\w+)", event)
    return (found[1], found[2], found[3]) if found else ("", "", "")


def by_the_words(_: Any, observation: Observation) -> Action:
    """Keeps the memory by reading: what is over is deleted, what is known is written over, what is new is added."""
    seen = observation.messages[-1].text
    event = seen.partition("Event: ")[2]
    person, phrase, value = words_of(event)
    known = re.search(rf"^(\d+): {person} {phrase} ", seen, re.MULTILINE) if person else None
    if not person or "Event" not in seen:
        return say("nothing new")
    if "no more" in event:
        return call("delete", id=int(known[1])) if known else say("nothing new")
    text = f"{person} {phrase} {value}"
    return call("update", id=int(known[1]), text=text) if known else call("add", text=text)


def test_a_story_by_hand() -> None:
    transitions = play_out(Sessions(), STORY, *RIGHT)
    assert transitions[-1].reward == {"kept": 1.0, "stale": 0.0, "size": 0.0} and solved(transitions)
    assert [t.info["event"] for t in transitions] == ["new", "irrelevant", "new", "changed", "deleted"]
    assert all(t.info["right"] for t in transitions)


@given(LEVELS, INDICES)
def test_the_words_of_the_events_say_all_that_is_asked(level: str, index: int) -> None:
    assert solved(play(Sessions(), Sessions.tasks().task("train", level, index), by_the_words))


@pytest.mark.parametrize(
    ("change", "reward"),
    [
        ({3: call("add", text="Ana lives in oslo")}, {"kept": 0.0, "stale": 0.0, "size": -0.05}),  # two cities: neither is known
        ({4: say("nothing")}, {"kept": 1.0, "stale": -0.5, "size": -0.05}),  # what has ended is still told
        ({3: say("nothing")}, {"kept": 0.0, "stale": 0.0, "size": 0.0}),  # the old city
        ({1: call("add", text="It rains today")}, {"kept": 1.0, "stale": 0.0, "size": -0.05}),
    ],
)
def test_what_each_mistake_costs(change: dict[int, Action], reward: dict[str, float]) -> None:
    actions = [change.get(i, action) for i, action in enumerate(RIGHT)]
    if 1 in change:  # numbers move on
        actions[4] = call("delete", id=3)
    assert play_out(Sessions(), STORY, *actions)[-1].reward == reward


def test_doing_nothing_and_adding_everything_are_worth_nothing() -> None:
    assert sum(play(Sessions(), STORY, lambda *_: say(""))[-1].reward.values()) == 0
    events = iter(event[1].rstrip(".") for event in STORY.data["events"])
    assert not solved(play(Sessions(), STORY, lambda *_: call("add", text=next(events))))


def test_an_entry_that_says_both_says_nothing() -> None:
    assert read([(1, "Ana lives in rome, lives in oslo")], "Ana", "city") == BOTH
    assert read([(1, "Ana and Ben lives in rome")], "Ben", "city") == UNKNOWN
    assert read([(1, "Ana lives in rome"), (2, "Ana lives in rome")], "Ana", "city") == "rome"
    assert read([(1, "Anabel lives in rome")], "Ana", "city") == UNKNOWN


@pytest.mark.parametrize("wrong", [call("update", id=7, text="x"), call("delete", id=1), call("add"), call("add", text=3, id=2)])
def test_a_call_that_fails_leaves_the_event_and_the_memory(wrong: Action) -> None:
    first, *rest = play_out(Sessions(), STORY, wrong, *RIGHT)
    assert first.failures and "event" not in first.info and solved(rest)


def test_the_policy_may_be_asked_instead_and_ended_facts_are_unknown() -> None:
    assert solved(play(Sessions(ask=True), STORY, oracle))
    *_, last = play_out(Sessions(ask=True), STORY, *RIGHT, say("Oslo."), say("unknown"))
    assert last.reward == {"kept": 1.0, "stale": 0.0, "size": 0.0}
    *_, last = play_out(Sessions(ask=True), STORY, *RIGHT, say("rome"), say("tea"))
    assert last.reward == {"kept": 0.0, "stale": -0.5, "size": 0.0}


@given(LEVELS, INDICES)
def test_every_task_has_a_fact_that_is_true_in_the_end_and_events_of_two_kinds(level: str, index: int) -> None:
    events = Sessions.tasks().task("test", level, index).data["events"]
    assert len(events) == int(level) and len({event[0] for event in events}) > 1
    ends = {(event[2], event[3]): event[4] for event in events if event[0] != "irrelevant"}
    assert set(ends.values()) != {UNKNOWN}
