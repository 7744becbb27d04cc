"""Sokoban: push all boxes onto targets.  [RAGEN's world, Wang et al., arXiv 2504.20073; its symbols, in ASCII]

The one idea: rooms are so small that breadth-first search solves them at once; so each drawn room is known to be solvable in so many moves, and
the oracle is a shortest solution from wherever one is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Task, Transition
from sojourn.core.environment import Observation
from sojourn.environments.small.common import DrawnTasks, SmallWorld, refuse, say
from sojourn.environments.tools import answer_text

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
LEVELS = {"5x5, 1 box": (5, 1, 2, 6), "6x6, 1 box": (6, 1, 5, 12), "6x6, 2 boxes": (6, 2, 6, 16), "7x7, 2 boxes": (7, 2, 10, 24)}
"""Side of the room with its walls, boxes, and the fewest and most moves of a shortest solution."""
LEGEND = "# is a wall, _ floor, O a target, X a box, * a box on a target, P you, S you on a target."

Cell = tuple[int, int]


class State(NamedTuple):
    """Where you are, and where the boxes are, in order."""

    player: Cell
    boxes: tuple[Cell, ...]


class Room(NamedTuple):
    """What does not move."""

    floor: frozenset[Cell]
    targets: frozenset[Cell]
    side: int


class Sokoban(SmallWorld[State]):
    """Reward: `solved`, 1 when all boxes are on targets, which ends the episode.  A move into a wall or against a box that cannot move is
    told and costs a turn.  `task.data`: `room` (rows of symbols), `limit`."""

    def start(self, task: Task) -> State:
        self.room, state = read(task.data["room"])
        return state

    def prompt(self) -> str:
        return f"Push all boxes onto targets. {LEGEND} Say up, down, left or right.\n{draw(self.room, self.state)}"

    def legal_actions(self) -> Sequence[str]:
        return tuple(MOVES)

    async def answer(self, action: Action) -> Transition:
        move = answer_text(action).strip().lower().rstrip(".")
        if move not in MOVES:
            return refuse("Say up, down, left or right.")
        after = moved(self.room, self.state, move)
        if after is None:
            return refuse(f"You cannot go {move}.\n{draw(self.room, self.state)}")
        self.state = after
        if set(after.boxes) <= self.room.targets:
            return Transition(reward={"solved": 1.0}, terminated=True, info={"success": True})
        return Transition(Observation.of(draw(self.room, after)))

    def restore(self, snapshot: object) -> None:
        super().restore(snapshot)
        self.room, _ = read(self.task.data["room"])

    def oracle(self) -> Action:
        """Raises LookupError where a box is stuck for good."""
        moves = solution(self.room, self.state)
        if not moves:
            raise LookupError("no moves lead to a solution from here")
        return say(moves[0])

    @staticmethod
    def tasks() -> DrawnTasks:
        return DrawnTasks("sokoban", tuple(LEVELS), draw_task, lambda data: data["room"])


def moved(room: Room, state: State, move: str) -> State | None:
    """The state after a move; None if it cannot be made."""
    (row, column), (down, right) = state.player, MOVES[move]
    place, behind = (row + down, column + right), (row + 2 * down, column + 2 * right)
    if place not in room.floor:
        return None
    if place not in state.boxes:
        return State(place, state.boxes)
    if behind not in room.floor or behind in state.boxes:
        return None
    return State(place, tuple(sorted(behind if box == place else box for box in state.boxes)))


@lru_cache(maxsize=4096)
def solution(room: Room, state: State, most: int = 40_000) -> tuple[str, ...]:
    """A shortest one; empty if there is none (or it is solved).

    >>> solution(*read(["#####", "#PXO#", "#####"]))
    ('right',)
    """
    came: dict[State, tuple[State, str] | None] = {state: None}
    waiting = deque([state])
    while waiting and len(came) < most:
        now = waiting.popleft()
        if set(now.boxes) <= room.targets:
            path: list[str] = []
            while (step := came[now]) is not None:
                now, move = step
                path.append(move)
            return tuple(reversed(path))
        for move in MOVES:
            after = moved(room, now, move)
            if after is not None and after not in came:
                came[after] = now, move
                waiting.append(after)
    return ()


def read(rows: Sequence[str]) -> tuple[Room, State]:
    """Rows of symbols as a room and a state."""
    cells = {(r, c): symbol for r, row in enumerate(rows) for c, symbol in enumerate(row)}
    floor = frozenset(cell for cell, symbol in cells.items() if symbol != "#")
    targets = frozenset(cell for cell, symbol in cells.items() if symbol in "O*S")
    player = next(cell for cell, symbol in cells.items() if symbol in "PS")
    boxes = tuple(sorted(cell for cell, symbol in cells.items() if symbol in "X*"))
    return Room(floor, targets, len(rows)), State(player, boxes)


def draw(room: Room, state: State) -> str:
    """The room as text."""
    width = 2 + max(column for _, column in room.floor)
    return "\n".join("".join(_symbol(room, state, (r, c)) for c in range(width)) for r in range(room.side))


def _symbol(room: Room, state: State, cell: Cell) -> str:
    on = cell in room.targets
    if cell not in room.floor:
        return "#"
    if cell == state.player:
        return "S" if on else "P"
    if cell in state.boxes:
        return "*" if on else "X"
    return "O" if on else "_"


def _cornered(room: Room, box: Cell) -> bool:
    """Whether walls hold it for good where no target is; most rooms drawn at random fail here, before any search."""
    row, column = box
    held = [(row + down, column + right) not in room.floor for down, right in MOVES.values()]
    return box not in room.targets and (held[0] or held[1]) and (held[2] or held[3])


def draw_task(rng: Random, level: str) -> Mapping[str, Any]:
    """Rooms until one has a shortest solution of the right length."""
    side, boxes, fewest, most = LEVELS[level]
    while True:
        inner = [(r, c) for r in range(1, side - 1) for c in range(1, side - 1)]
        walls = set(rng.sample(inner, rng.randint(0, len(inner) // 4)))
        floor = [cell for cell in inner if cell not in walls]
        if len(floor) < 2 * boxes + 1:
            continue
        player, *rest = rng.sample(floor, 2 * boxes + 1)
        room = Room(frozenset(floor), frozenset(rest[:boxes]), side)
        state = State(player, tuple(sorted(rest[boxes:])))
        if any(_cornered(room, box) for box in state.boxes):
            continue
        if fewest <= len(solution(room, state)) <= most:
            return {"room": draw(room, state).split("\n"), "limit": 2 * most}
