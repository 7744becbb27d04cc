"""Itinerary: parts of a plan are judged as they are said, and few plans are right."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import call, oracle, play, play_out, say

from sojourn.core import Task
from sojourn.environments.small.itinerary import Itinerary, Weights, cost, judge, right_plans

INDICES = st.integers(0, 10**4)
LEVELS = st.sampled_from(["1", "2", "3", "4"])
HOTELS = {"Bern": [30, 3], "Oslo": [50, 5], "Rome": [20, 2]}
TRAINS = [
    ["Home", "Bern", 10],
    ["Bern", "Oslo", 5],
    ["Oslo", "Home", 15],
    ["Bern", "Home", 20],
    ["Home", "Oslo", 5],
    ["Oslo", "Bern", 5],
    ["Home", "Rome", 5],
]
DATA = {
    "home": "Home", "hotels": HOTELS, "trains": TRAINS, "nights": 2, "limit": 11,
    "constraints": [["budget", 110], ["visit", "Oslo"], ["stars", 3], ["before", "Oslo", "Bern"]],
}  # fmt: skip
TASK = Task("t", DATA, "2")


def test_costs_by_hand() -> None:
    assert cost(DATA, ("Bern", "Oslo")) == 10 + 30 + 5 + 50 + 15
    assert cost(DATA, ("Oslo", "Bern")) == 5 + 50 + 5 + 30 + 20
    assert cost(DATA, ("Rome", "Oslo")) == float("inf")


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("Oslo, Bern", (1, 1, 1)), ("Oslo,Bern.", (1, 1, 1)), ("Bern, Oslo", (1, 1, 0.75)), ("Rome, Oslo", (1, 0, 0)), ("Oslo", (0, 0, 0)),
        ("Oslo, Oslo", (0, 0, 0)), ("Home, Oslo", (0, 0, 0)), ("Oslo, Bern, Rome", (0, 0, 0)), ("Oslo Bern", (0, 0, 0)), ("", (0, 0, 0)),
        ("Oslo, Bern or Bern, Oslo", (0, 0, 0)), ("oslo, bern", (0, 0, 0)),
    ],
)  # fmt: skip
def test_a_plan_is_judged_in_parts(answer: str, parts: tuple[float, float, float]) -> None:
    (last,) = play_out(Itinerary(weights=Weights(schema=0.1, sense=0.2, hard=0.4)), TASK, say(answer))
    schema, sense, hard = parts
    assert last.reward == pytest.approx(
        {"final": float(hard == 1), "schema": 0.1 * schema, "sense": 0.2 * sense, "hard": 0.4 * hard}
    )
    assert last.info["success"] == (hard == 1)
    assert play_out(Itinerary(), TASK, say(answer))[-1].reward == {"final": float(hard == 1)}


@pytest.mark.parametrize("constraint", [["budget", 109], ["visit", "Rome"], ["stars", 4], ["before", "Bern", "Oslo"]])
def test_each_constraint_alone_makes_a_plan_wrong(constraint: list[object]) -> None:
    kept = [c for c in DATA["constraints"] if c[0] != constraint[0]]
    parts = judge({**DATA, "constraints": [*kept, constraint]}, ("Oslo", "Bern"))
    assert parts == {"schema": 1.0, "sense": 1.0, "hard": 0.75, "final": 0.0}


@given(LEVELS, INDICES)
def test_at_least_one_plan_is_right_and_at_most_one_in_ten_or_one(level: str, index: int) -> None:
    data = Itinerary.tasks().task("test", level, index).data
    every = len(list(permutations(data["hotels"], data["nights"])))
    assert 1 <= len(right_plans(data)) <= max(1, every / 10)


@given(LEVELS, INDICES)
def test_the_tool_tells_all_that_the_judge_knows(level: str, index: int) -> None:
    task = Itinerary.tasks().task("train", level, index)
    *looks, last = play(Itinerary(), task, oracle)
    told = "\n".join(t.observation.messages[0].text for t in looks)
    assert last.info["success"]
    for start, to, price in task.data["trains"]:
        (line,) = (line for line in told.splitlines() if line.startswith(f"{start}:"))
        assert f"{to} {price}" in line
    for city, (price, stars) in task.data["hotels"].items():
        assert f"{city}: hotel {price}, {stars} stars" in told


def test_with_all_shown_nothing_need_be_looked_up() -> None:
    assert len(play(Itinerary(shown=True), TASK, oracle)) == 1
    (told,) = play_out(Itinerary(), TASK, call("look", city="Paris"))
    assert told.failures and not told.terminated
