"""2048: slide the tiles, equal ones merge; reach the tile of the level.  [Gabriele Cirulli's game, 2014]

The one idea: the tile that appears after a move is a function of the task's seed and the number of moves, so an episode is a function of its
moves; and only seeds are drawn for which the oracle, a search of two moves, reaches the tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Task, Transition
from sojourn.core.environment import Observation
from sojourn.environments.small.common import DrawnTasks, SmallWorld, refuse, say
from sojourn.environments.tools import answer_text

SIDE = 4
MOVES = ("up", "down", "left", "right")
LEVELS = ("32", "64", "128")
LIMITS = {"32": 40, "64": 70, "128": 120}

Board = tuple[int, ...]


class State(NamedTuple):
    """The board row by row, 0 for nothing, and the moves so far."""

    board: Board
    moves: int


class Game2048(SmallWorld[State]):
    """Reward: `reached`, 1 when the level's tile is there, which ends the episode; without a legal move it ends, too.  A move that changes
    nothing is told and costs a turn.  `task.data`: `seed`, `goal`, `limit`."""

    def start(self, task: Task) -> State:
        return begin(task.data["seed"])

    def prompt(self) -> str:
        return (
            f"2048: slide all tiles; equal ones that meet become one of twice the number. Reach {self.task.data['goal']}. Say up, down, left or "
            f"right.\n{show(self.state.board)}"
        )

    def legal_actions(self) -> Sequence[str]:
        return [move for move in MOVES if slid(self.state.board, move) != self.state.board] or ["up"]

    async def answer(self, action: Action) -> Transition:
        move = answer_text(action).strip().lower().rstrip(".")
        if move not in MOVES:
            return refuse("Say up, down, left or right.")
        if slid(self.state.board, move) == self.state.board:
            return refuse(f"Nothing moves {move}.\n{show(self.state.board)}")
        self.state = after(self.task.data["seed"], self.state, move)
        reached = max(self.state.board) >= self.task.data["goal"]
        stuck = all(slid(self.state.board, other) == self.state.board for other in MOVES)
        reward = {"reached": 1.0} if reached else {}
        return Transition(Observation.of(show(self.state.board)), reward, terminated=reached or stuck, info={"success": reached})

    def oracle(self) -> Action:
        return say(best(self.state.board))

    @staticmethod
    def tasks() -> DrawnTasks:
        return DrawnTasks("2048", LEVELS, draw, lambda data: data["seed"])


def begin(seed: int) -> State:
    board = (0,) * (SIDE * SIDE)
    return State(_grown(_grown(board, Random(f"{seed}/a")), Random(f"{seed}/b")), 0)


def after(seed: int, state: State, move: str) -> State:
    """The move, and the tile that comes after it."""
    return State(_grown(slid(state.board, move), Random(f"{seed}/{state.moves}")), state.moves + 1)


def slid(board: Board, move: str) -> Board:
    """
    >>> slid((2, 2, 4, 0) + (0,) * 12, "left")[:4], slid((2, 2, 2, 0) + (0,) * 12, "right")[:4]
    ((4, 4, 0, 0), (0, 0, 2, 4))
    """
    rows = [list(board[SIDE * i : SIDE * i + SIDE]) for i in range(SIDE)]
    if move in ("up", "down"):
        rows = [list(column) for column in zip(*rows, strict=True)]
    back = move in ("right", "down")
    rows = [_merged(row[::-1])[::-1] if back else _merged(row) for row in rows]
    if move in ("up", "down"):
        rows = [list(column) for column in zip(*rows, strict=True)]
    return tuple(tile for row in rows for tile in row)


def _merged(row: list[int]) -> list[int]:
    tiles, made = [tile for tile in row if tile], list[int]()
    while tiles:
        first = tiles.pop(0)
        made.append(first + tiles.pop(0) if tiles and tiles[0] == first else first)
    return made + [0] * (SIDE - len(made))


def _grown(board: Board, rng: Random) -> Board:
    """A new tile on an empty cell: 2, or one time in ten 4."""
    empty = [place for place, tile in enumerate(board) if not tile]
    if not empty:
        return board
    place = rng.choice(empty)
    return (*board[:place], 4 if rng.random() < 0.1 else 2, *board[place + 1 :])


@lru_cache(maxsize=1 << 16)
def best(board: Board) -> str:
    """The move after which, and after one more, the board looks best."""
    options = [move for move in MOVES if slid(board, move) != board]
    return max(options or ["up"], key=lambda move: _looks_ahead(slid(board, move)))


def _looks_ahead(board: Board) -> float:
    return max([_looks(slid(board, move)) for move in MOVES if slid(board, move) != board] or [_looks(board) - 100.0])


def _looks(board: Board) -> float:
    """Empty cells are good, and large tiles along a snake from one corner."""
    snake = [i if (i // SIDE) % 2 == 0 else (i // SIDE) * SIDE + SIDE - 1 - i % SIDE for i in range(SIDE * SIDE)]
    return 4.0 * board.count(0) + sum(board[place] * 0.5**rank for rank, place in enumerate(snake))


def show(board: Board) -> str:
    return "\n".join(" ".join(str(tile or ".") for tile in board[SIDE * i : SIDE * i + SIDE]) for i in range(SIDE))


def draw(rng: Random, level: str) -> Mapping[str, Any]:
    """Seeds until the oracle reaches the tile, well within the limit."""
    goal, limit = int(level), LIMITS[level]
    while True:
        seed = rng.randrange(10**9)
        state = begin(seed)
        while max(state.board) < goal and state.moves < limit - 20:
            if (moved := after(seed, state, best(state.board))).board == state.board:
                break
            state = moved
        if max(state.board) >= goal:
            return {"seed": seed, "goal": goal, "limit": limit}
