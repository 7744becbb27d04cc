"""Preferences: asking where it is needed beats never and always asking."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import oracle, play, play_out, say, solved

from sojourn.core import Action, Observation, Task
from sojourn.environments.small.preferences import SLOTS, TOLD, Preferences

INDICES = st.integers(0, 10**4)
LEVELS = st.sampled_from(["2", "3", "4", "6"])
ANA = Task("t", {"name": "Ana", "traits": ["child", "tired"], "wishes": {"drink": "milk", "bread": "cake"}, "limit": 8}, "2")


def never(environment: Any, _: Observation) -> Action:
    """Reads the traits, guesses the rest."""
    action = oracle(environment, _)
    slot = action.text.removeprefix("ask ")
    return say(f"give {SLOTS[slot][0]}") if action.text.startswith("ask ") else action


def always(environment: Any, _: Observation) -> Action:
    asks = [text for text in environment.legal_actions() if text.startswith("ask ")]
    return say(asks[0]) if asks else oracle(environment, _)


def gain(rule: Callable[[Any, Observation], Action], count: int = 60) -> float:
    source, total = Preferences.tasks(), 0.0
    for level in source.levels:
        for index in range(count):
            total += sum(sum(t.reward.values()) for t in play(Preferences(), source.task("test", level, index), rule))
    return total / count / len(source.levels)


def test_asking_where_chance_decides_beats_never_and_always_asking() -> None:
    assert gain(oracle) > max(gain(never), gain(always)) + 0.05


def test_satisfaction_less_the_price_of_questions_by_hand() -> None:
    moves = ("give milk", "ask bread", "give cake")
    transitions = play_out(Preferences(), ANA, *map(say, moves))
    assert [t.reward for t in transitions] == [{"satisfied": 0.5}, {"question": -0.05}, {"satisfied": 0.5}]
    assert transitions[1].observation.messages[0].text.startswith("Ana: cake.") and solved(transitions)


@pytest.mark.parametrize("moves", [("give tea", "give cake"), ("give milk", "give roll")])
def test_one_wish_missed_is_half_of_the_satisfaction_and_no_success(moves: tuple[str, str]) -> None:
    transitions = play_out(Preferences(), ANA, *map(say, moves))
    assert sum(t.reward["satisfied"] for t in transitions) == 0.5 and not solved(transitions)


@pytest.mark.parametrize(
    "text", ["give gold", "give milk and cake", "ask light", "ask", "give milk give tea", "give toast, roll, cake"]
)
def test_what_cannot_be_chosen_costs_a_turn_and_chooses_nothing(text: str) -> None:
    told, *rest = play_out(Preferences(), ANA, say(text), say("give milk"), say("give cake"))
    assert told.failures and told.reward == 0 and solved(rest)


def test_a_choice_is_for_good_and_a_question_is_asked_once() -> None:
    transitions = play_out(Preferences(), ANA, *map(say, ("give tea", "give milk", "ask bread", "ask bread")))
    assert [bool(t.failures) for t in transitions] == [False, True, False, True]


@given(LEVELS, INDICES)
def test_traits_tell_about_half_of_the_wishes_in_the_same_way_for_all(level: str, index: int) -> None:
    data = Preferences.tasks().task("train", level, index).data
    age, mood = data["traits"]
    rule = {"child": ("milk", "floor"), "adult": ("coffee", "chair"), "elder": ("tea", "sofa")}
    wish = {"drink": rule[age][0], "seat": rule[age][1]} | (
        {"light": "dim", "music": "none"} if mood == "tired" else {"light": "bright", "music": "pop"}
    )
    told = {slot: value for slot, value in data["wishes"].items() if slot in TOLD}
    assert all(wish[slot] == value for slot, value in told.items())
    assert len(told) == int(level) // 2 and len(data["wishes"]) == int(level)


def test_no_value_is_of_two_slots() -> None:
    values = [value for slot in SLOTS.values() for value in slot]
    assert len(values) == len(set(values))
