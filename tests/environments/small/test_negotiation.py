"""Negotiation: the partner keeps its word, points add up, and waiting costs."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import oracle, play, play_out, say, solved

from sojourn.core import Task
from sojourn.environments.small.negotiation import Negotiation, read_split

INDICES = st.integers(0, 10**4)
LEVELS = st.sampled_from(["2", "3", "4"])
# Two books worth 4 and 1 each, two hats worth 1 and 4: by rounds the partner wants 8, 7, 6, 5, 4, 4.
TASK = Task("t", {"counts": [2, 2], "mine": [4, 1], "theirs": [1, 4], "floor": 4, "limit": 8}, "2")


def test_a_deal_that_suits_both_is_made_at_once() -> None:
    (deal,) = play_out(Negotiation(), TASK, say("take 2 book"))
    assert deal.reward == {"deal": 0.8, "delay": 0.0} and deal.info["success"]


@pytest.mark.parametrize("take", ["take 1 book", "take 1 book, 1 hat", "take 2 hat", "take 1 hat"])
def test_a_worse_deal_is_no_success(take: str) -> None:
    transitions = play(Negotiation(), TASK, lambda *_: say(take))
    assert not solved(transitions)


def test_the_partner_refuses_below_its_threshold_which_falls_by_a_point_a_round_to_its_floor() -> None:
    greedy = play(Negotiation(), TASK, lambda *_: say("take 2 book, 1 hat"))  # leaves 4 to the partner
    assert [t.terminated for t in greedy] == [False, False, False, False, True]
    assert greedy[-1].reward == pytest.approx({"deal": 0.9, "delay": -0.2}) and not solved(greedy)
    everything = play(Negotiation(), TASK, lambda *_: say("take 2 book, 2 hat"))
    assert len(everything) == 6 and everything[-1].reward == 0 and not solved(everything)


def test_its_offer_can_be_taken_and_is_what_it_said() -> None:
    told, deal = play_out(Negotiation(), TASK, say("take 2 book, 2 hat"), say("accept"))
    assert told.observation.messages[0].text == "No. You get 2 book." and deal.reward == {"deal": 0.8, "delay": -0.05}


@given(LEVELS, INDICES)
def test_both_sides_values_are_ten_points_and_there_is_something_to_settle(level: str, index: int) -> None:
    data = Negotiation.tasks().task("test", level, index).data
    for values in (data["mine"], data["theirs"]):
        assert sum(value * count for value, count in zip(values, data["counts"], strict=True)) == 10
    assert len(data["counts"]) == int(level)


@given(LEVELS, INDICES)
def test_no_proposal_in_any_round_pays_more_than_the_oracle(level: str, index: int) -> None:
    task = Negotiation.tasks().task("train", level, index)
    data, got = task.data, sum(play(Negotiation(), task, oracle)[-1].reward.values())
    for round in range(6):
        for split in product(*(range(count + 1) for count in data["counts"])):
            theirs = sum(v * (c - s) for v, c, s in zip(data["theirs"], data["counts"], split, strict=True))
            mine = sum(v * s for v, s in zip(data["mine"], split, strict=True))
            if theirs >= max(data["floor"], 8 - round):
                assert mine / 10 - 0.05 * round <= got + 1e-9


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("take 1 book", (1, 0)), ("take 1 book, 2 hat", (1, 2)), ("take 2 hats 1 book", (1, 2)), ("take 3 book", None), ("take 0 book", None),
        ("take 1 book, 1 book", None), ("take 1 ball", None), ("take", None), ("take all", None), ("1 book", None), ("take -1 book", None),
    ],
)  # fmt: skip
def test_a_proposal_is_numbers_of_things_that_are_there(text: str, split: tuple[int, ...] | None) -> None:
    assert read_split(text, (2, 2)) == split


def test_leaving_and_accepting_nothing_pay_nothing() -> None:
    (left,) = play_out(Negotiation(), TASK, say("leave"))
    assert left.terminated and left.reward == 0
    (told,) = play_out(Negotiation(), TASK, say("accept"))
    assert told.failures and not told.terminated
