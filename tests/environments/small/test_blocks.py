"""Blocksworld: the moves are those of the textbook, plans are shortest, names do not matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import oracle, play, play_out, say, solved

from sojourn.core import Task
from sojourn.environments.small.blocks import COLOURS, Blocks, Table, content, facts, moves, plan
from sojourn.environments.small.common import split_of

INDICES = st.integers(0, 10**4)
SUSSMAN = Task(
    "sussman",
    {"start": [["red", "green"], ["blue"]], "goal": [("red", "blue"), ("blue", "green")], "optimal": 6, "limit": 14},
    "3",
)


def reachable(table: Table) -> set[Table]:
    seen, queue = {table}, [table]
    for state in queue:
        new = set(moves(state).values()) - seen
        seen |= new
        queue += new
    return seen


@pytest.mark.parametrize(("blocks", "arrangements"), [(1, 1), (2, 3), (3, 13), (4, 73), (5, 501)])
def test_the_moves_reach_every_arrangement_and_nothing_else(blocks: int, arrangements: int) -> None:
    # Sets of ordered lists, OEIS A000262; a held block leaves an arrangement of the others.
    states = reachable(Table((COLOURS[:blocks],)))
    assert sum(state.held is None for state in states) == arrangements
    fewer = {1: 1, 2: 1, 3: 3, 4: 13, 5: 73}[blocks]
    assert sum(state.held is not None for state in states) == blocks * fewer


def test_every_move_can_be_taken_back() -> None:
    for state in reachable(Table((COLOURS[:4],))):
        assert all(state in moves(after).values() for after in moves(state).values())


def test_sussmans_anomaly_takes_six_moves() -> None:
    steps = plan(Table((("blue",), ("red", "green"))), (("red", "blue"), ("blue", "green")))
    assert steps == [
        "unstack green from red", "put down green", "pick up blue", "stack blue on green", "pick up red", "stack red on blue",
    ]  # fmt: skip
    transitions = play_out(Blocks(), SUSSMAN, *map(say, steps))
    assert transitions[-1].reward == {"goal": 1.0} and solved(transitions)
    assert [t.info["goals"] for t in transitions] == [0, 0, 0, 0.5, 0.5, 1]


@given(st.sampled_from(["3", "4", "5"]), INDICES)
def test_no_shorter_sequence_of_moves_reaches_the_goal(level: str, index: int) -> None:
    task = Blocks.tasks().task("train", level, index % 20)
    goal, layer = set(map(tuple, task.data["goal"])), {Table(tuple(sorted(map(tuple, task.data["start"]))))}
    for _ in range(task.data["optimal"]):
        assert not any(goal <= set(facts(state)) for state in layer)
        layer = {after for state in layer for after in moves(state).values()}
    assert any(goal <= set(facts(state)) for state in layer)
    assert len(play(Blocks(), task, oracle)) == task.data["optimal"] >= 4


@given(st.sampled_from(["3", "4", "5"]), INDICES, st.permutations(COLOURS))
def test_other_names_make_the_same_problem(level: str, index: int, names: list[str]) -> None:
    task = Blocks.tasks().task("test", level, index % 20)
    other = dict(zip(COLOURS, names, strict=True))
    start = [[other[block] for block in stack] for stack in task.data["start"]]
    goal = [(other[a], other[b]) for a, b in task.data["goal"]]
    renamed = content({"start": start, "goal": goal})
    assert renamed == content(task.data) and split_of(renamed) == "test"


@pytest.mark.parametrize(
    "move",
    [
        "stack red on blue",
        "pick up red",
        "put down red",
        "unstack red from green",
        "pick up gold",
        "move red to blue",
        "unstack green",
    ],
)
def test_a_move_that_cannot_be_done_changes_nothing_and_costs_a_turn(move: str) -> None:
    (transition,) = play_out(Blocks(), SUSSMAN, say(move))
    assert transition.failures and "Now: red on table, green on red, blue on table" in transition.observation.messages[
        0
    ].text.replace("blue on table, red on table, green on red", "red on table, green on red, blue on table")
    assert len(play(Blocks(), SUSSMAN, lambda _, __: say(move))) == SUSSMAN.data["limit"]


def test_the_goal_the_other_way_round_is_no_success() -> None:
    wrong = ["unstack green from red", "stack green on blue"]
    assert not solved(play_out(Blocks(), SUSSMAN, *map(say, wrong)))


def test_legal_actions_are_exactly_what_is_accepted() -> None:
    words = COLOURS[:3] + ("table",)
    texts = [f"{verb} {a}" for verb in ("pick up", "put down") for a in words]
    texts += [f"{verb} {a} {word} {b}" for verb, word in (("stack", "on"), ("unstack", "from")) for a in words for b in words]

    for state in reachable(Table((COLOURS[:3],))):
        task = Task("t", {"start": [list(s) for s in state.stacks], "goal": [("red", "none")], "limit": 99}, "3")
        if state.held is None:
            accepted = [text for text in texts if not play_out(Blocks(), task, say(text))[0].failures]
            assert sorted(accepted) == sorted(moves(state))
