"""The service desk: the database decides, and a right change beside a wrong one is wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import call, oracle, play, play_out, say, solved

from sojourn.core import Action, Task, ToolCall
from sojourn.environments.small.stateful_api import StatefulApi, expected, load

INDICES = st.integers(0, 10**4)
LEVELS = st.sampled_from(["1", "2", "3", "4"])
ROWS = [
    [["Ana", "Rome", 30], ["Ben", "Oslo", 50]],
    [[14, "Ana", "lamp", "open", "Rome"], [15, "Ana", "desk", "sent", "Rome"], [16, "Ben", "lamp", "open", "Oslo"]],
    [["tax1", "Ana"], ["map2", "Ben"]],
]


def desk(request: str, *calls: tuple[str, dict[str, object]]) -> Task:
    return Task("t", {"database": ROWS, "request": request, "calls": list(calls), "limit": 9}, "2")


CANCEL = desk("Cancel the lamp order of Ana.", ("orders", {"name": "Ana"}), ("cancel", {"order": 14}))


def test_what_is_asked_for_is_a_success_however_it_was_found_out() -> None:
    assert solved(play(StatefulApi(), CANCEL, oracle))
    assert solved(play_out(StatefulApi(), CANCEL, call("cancel", order=14), say("I cancelled it.")))
    assert solved(play_out(StatefulApi(), CANCEL, call("files", name="Ben"), call("cancel", order="14"), say("done")))


@pytest.mark.parametrize(
    "calls",
    [
        [], [call("cancel", order=16)], [call("cancel", order=14), call("cancel", order=16)], [call("redirect", order=14, city="Oslo")],
        [call("cancel", order=14), call("delete", file="tax1")], [call("cancel", order=14), call("pay", payer="Ana", payee="Ben", amount=1)],
        [call("cancel", order=15)], [call("cancel", order=14), call("move", name="Ana", city="rome")],
    ],
)  # fmt: skip
def test_nothing_less_nothing_more_and_nothing_else_is(calls: list[object]) -> None:
    transitions = play_out(StatefulApi(), CANCEL, *calls, say("done"))
    assert transitions[-1].reward == {"state": 0.0} and not solved(transitions) and transitions[-1].info["wrong_rows"] > 0


def test_what_stands_when_the_turns_are_over_is_judged() -> None:
    done, idle = call("cancel", order=14), call("user", name="Ana")
    *before, last = play_out(StatefulApi(), CANCEL, done, *[idle] * 8)
    assert all(t.reward == 0 and not t.truncated for t in before)
    assert last.truncated and last.reward == {"state": 1.0} and last.info["success"]
    *_, last = play_out(StatefulApi(), CANCEL, *[idle] * 9)
    assert last.truncated and last.reward == {"state": 0.0} and not last.info["success"]


def test_a_change_that_is_undone_leaves_no_trace() -> None:
    there, back = call("move", name="Ben", city="Rome"), call("move", name="Ben", city="Oslo")
    assert solved(play_out(StatefulApi(), CANCEL, there, call("cancel", order=14), back, say("done")))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (call("cancel", order=15), "order 15 is sent"), (call("redirect", order=15, city="Oslo"), "is sent"),
        (call("user", name="ana"), "no user"),
        (call("cancel", order=99), "no order 99"), (call("give", file="tax9", name="Ben"), "no file"),
        (call("give", file="tax1", name="Eve"), "no user"),
        (call("pay", payer="Ana", payee="Ben", amount=31), "Ana has 30"), (call("pay", payer="Ana", payee="Ben", amount=-5), "Ana has 30"),
        (call("pay", payer="Ana", payee="Ana", amount=5), "Ana has 30"), (call("cancel", order="all"), "Expected cancel"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_and_changes_nothing(wrong: object, why: str) -> None:
    told, *_, last = play_out(StatefulApi(), CANCEL, wrong, call("cancel", order=14), say("done"))
    assert told.failures and why in told.observation.messages[0].text and last.info["success"]


def test_money_is_neither_made_nor_lost() -> None:
    task = desk("Pay all the money of Ana to Ben.", ("pay", {"payer": "Ana", "payee": "Ben", "amount": 30}))
    assert [user.money for user in expected(task.data).users] == [0, 80]
    assert solved(
        play_out(
            StatefulApi(),
            task,
            call("pay", payer="Ana", payee="Ben", amount=10),
            call("pay", payer="Ana", payee="Ben", amount=20),
            say("ok"),
        )
    )


def test_two_calls_of_one_action_are_done_in_order() -> None:
    task = desk("Delete tax1.", ("delete", {"file": "tax1"}))
    give, delete = ToolCall("give", {"file": "tax1", "name": "Ben"}), ToolCall("delete", {"file": "tax1"})
    assert solved(play_out(StatefulApi(), task, Action("", (give, delete)), say("done")))
    told, _ = play_out(StatefulApi(), task, Action("", (delete, give)), say("done"))
    assert [failure.where for failure in told.failures] == ["tool 'give'"]


@given(LEVELS, INDICES)
def test_the_words_of_a_request_say_what_changes(level: str, index: int) -> None:
    """Read in the test's own way: whose rows change, and how."""
    data = StatefulApi.tasks().task("train", level, index).data
    before, after, words = load(data["database"]), expected(data), data["request"]
    names = set(re.findall(r"[A-Z]\w+", words))
    for old, new in zip(before.users, after.users, strict=True):
        assert old == new or old.name in names
        assert old.city == new.city or new.city in words or new.city in {user.city for user in before.users if user.name in names}
    for was, order in zip(before.orders, after.orders, strict=True):
        assert was == order or (was.status == "open" and (was.user in names or str(was.number) in words))
    assert after != before
    assert ("ancel" in words) == any(o.status == "cancelled" for o in after.orders)
    assert ("elete" in words) == (len(after.files) < len(before.files))


@given(st.sampled_from(["2", "3", "4"]), INDICES)
def test_from_level_two_on_the_request_does_not_say_all(level: str, index: int) -> None:
    data = StatefulApi.tasks().task("test", level, index).data
    changes = [arguments for name, arguments in data["calls"] if name in ("cancel", "redirect", "pay", "move", "give", "delete")]
    assert any(str(value) not in data["request"] for arguments in changes for value in arguments.values())


@given(LEVELS, INDICES)
def test_an_order_that_a_request_names_by_its_item_is_the_only_one(level: str, index: int) -> None:
    data = StatefulApi.tasks().task("test", level, index).data
    if found := re.search(r"the (\w+) order of (\w+)", data["request"]):
        assert sum((order.item, order.user) == found.groups() for order in load(data["database"]).orders) == 1
