"""Sokoban and 2048: moves do what the games' rules say, and the worlds are sound and solvable."""

from __future__ import annotations

import asyncio

import pytest
from small_worlds import play_out, say, solved

from sojourn.core import Task
from sojourn.environments import check_environment, find
from sojourn.environments.games.game_2048 import Game2048, State, after, begin, slid
from sojourn.environments.games.sokoban import Sokoban, draw, moved, read, solution

ROOM = ["#######", "#P_X_O#", "#__#__#", "#######"]


@pytest.mark.parametrize("name", ["games/sokoban", "games/2048"])
def test_the_checker_passes_and_the_oracle_solves_all(name: str) -> None:
    lines = check_environment(find(name), count=1, max_steps=130)
    count = 2 * len(find(name).tasks.levels)
    assert f"solved: {count} of {count} by the oracle" in lines
    assert "abilities: LegalActions, Oracle, Restorable, StateKey" in lines


def test_a_box_is_pushed_and_never_pulled() -> None:
    room, state = read(ROOM)
    for move in ("right", "right", "right"):
        state = moved(room, state, move) or pytest.fail(move)
    assert draw(room, state).split("\n")[1] == "#___P*#"
    assert moved(room, state, "right") is None, "a box against a wall"
    back = moved(room, state, "left")
    assert back is not None and draw(room, back).split("\n")[1] == "#__P_*#"


def test_a_wall_holds() -> None:
    room, state = read(ROOM)
    assert moved(room, state, "up") is None and moved(room, state, "left") is None


def test_a_shortest_solution_is_found_and_a_stuck_box_has_none() -> None:
    assert solution(*read(ROOM)) == ("right", "right", "right")
    assert solution(*read(["#####", "#X_O#", "#_P_#", "#####"])) == ()


def test_solving_pays_one_and_what_is_no_move_pays_nothing() -> None:
    task = Task("t", {"room": ROOM, "limit": 9})
    played = play_out(Sokoban(), task, say("fly"), say("up"), say("right"), say("Right."), say("right"))
    assert solved(played) and played[-1].reward == {"solved": 1.0}
    assert [bool(each.failures) for each in played] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("row", "left", "right"),
    [
        ((2, 2, 0, 0), (4, 0, 0, 0), (0, 0, 0, 4)),
        ((2, 2, 2, 0), (4, 2, 0, 0), (0, 0, 2, 4)),
        ((2, 2, 2, 2), (4, 4, 0, 0), (0, 0, 4, 4)),
        ((4, 2, 2, 0), (4, 4, 0, 0), (0, 0, 4, 4)),
        ((2, 0, 0, 2), (4, 0, 0, 0), (0, 0, 0, 4)),
        ((8, 0, 2, 4), (8, 2, 4, 0), (0, 8, 2, 4)),
    ],
)
def test_tiles_slide_and_each_merges_once(row: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]) -> None:
    board = row + (0,) * 12
    assert slid(board, "left")[:4] == left and slid(board, "right")[:4] == right
    column = tuple(row[i // 4] if i % 4 == 0 else 0 for i in range(16))
    assert slid(column, "up")[::4] == left and slid(column, "down")[::4] == right


def test_one_tile_comes_with_each_move_and_depends_on_the_moves_alone() -> None:
    state = begin(5)
    assert sum(1 for tile in state.board if tile) == 2
    for move in ("left", "up", "left", "up"):
        new = after(5, state, move)
        assert new == after(5, state, move)
        grown = [a for a, b in zip(new.board, slid(state.board, move), strict=True) if a != b]
        assert grown in ([2], [4])
        state = new


def test_a_board_without_a_move_ends_the_episode_unsolved() -> None:
    """After `left` the last row is 4 2 16 x: with x = 2 nothing can merge, with x = 4 it merges with the 4 above."""
    world = Game2048()
    asyncio.run(world.reset(Task("t", {"seed": 1, "goal": 64, "limit": 9}), seed=0))
    world.state = State((2, 4, 2, 4, 4, 2, 4, 2, 2, 4, 2, 4, 4, 2, 8, 8), 0)
    last = asyncio.run(world.step(say("left")))
    assert last.terminated is (world.state.board[-1] == 2) and not last.info["success"]
