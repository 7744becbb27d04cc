"""Blocksworld: stacks of coloured blocks, one hand, four kinds of moves; the goal says which block is on which.

The one idea: a state is a canonical tuple of stacks, so that a breadth-first search over states is an optimal planner, and a
snapshot is the state.  The four operators are those of the planning competitions and of RAP (arXiv 2305.14992).

Tasks that differ in the names of their blocks alone are the same problem and are in the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Observation, Task, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, listed, refuse, say
from sojourn.environments.tools import answer_text

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "pink", "brown")
EASIEST = 4
"""Moves that a task needs at least."""

Stacks = tuple[tuple[str, ...], ...]
Goal = tuple[tuple[str, str], ...]


class Table(NamedTuple):
    """`stacks` are sorted, each from the bottom up; `held` is the block in the hand."""

    stacks: Stacks
    held: str | None = None


class Blocks(SmallWorld[Table]):
    """One move an action, such as `unstack red from blue`; the task is solved when all goals hold.

    Reward: `goal`, 1 when they do.  `info["goals"]` is the fraction that holds.  A move that cannot be done costs a turn and changes
    nothing.  After twice the moves that are needed, and two, the episode is truncated.
    `task.data`: `start` (stacks, bottom up), `goal` (pairs of a block and what it is on), `optimal` (moves), `limit`.
    """

    def start(self, task: Task) -> Table:
        return Table(canonical(task.data["start"]))

    def prompt(self) -> str:
        rules = "Move blocks until the goal holds. Moves: pick up X, put down X, stack X on Y, unstack X from Y."
        return f"{rules}\n{self._view()}"

    async def answer(self, action: Action) -> Transition:
        move = " ".join(answer_text(action).lower().rstrip(".").split())
        after = moves(self.state).get(move)
        if after is None:
            return refuse(f"You cannot do that. {self._view()}")
        self.state = after
        fraction = sum(fact in facts(after) for fact in self._goal) / len(self._goal)
        info = {"success": fraction == 1, "goals": fraction}
        if fraction == 1:
            return Transition(Observation.of("Done."), {"goal": 1.0}, terminated=True, info=info)
        return Transition(Observation.of(self._view()), info=info)

    def legal_actions(self) -> Sequence[str]:
        return list(moves(self.state))

    def oracle(self) -> Action:
        """The first move of a shortest plan."""
        return say(plan(self.state, self._goal)[0])

    @property
    def _goal(self) -> Goal:
        return tuple((a, b) for a, b in self.task.data["goal"])

    def _view(self) -> str:
        goal = listed([f"{block} on {below}" for block, below in self._goal])
        now = listed([f"{block} on {below}" for block, below in facts(self.state)])
        return f"Goal: {goal}. Now: {now}, hand {'holds ' + self.state.held if self.state.held else 'empty'}."

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of blocks."""
        return DrawnTasks("blocks", ("3", "4", "5"), draw, content)


def moves(table: Table) -> dict[str, Table]:
    """Every move that can be made now, and the state after it.

    >>> moves(Table((("blue", "red"),)))
    {'unstack red from blue': Table(stacks=(('blue',),), held='red')}
    """
    found: dict[str, Table] = {}
    for i, stack in enumerate(table.stacks):
        others = table.stacks[:i] + table.stacks[i + 1 :]
        *below, top = stack
        if table.held is not None:
            found[f"stack {table.held} on {top}"] = Table(canonical((*others, (*stack, table.held))))
        elif below:
            found[f"unstack {top} from {below[-1]}"] = Table(canonical((*others, tuple(below))), top)
        else:
            found[f"pick up {top}"] = Table(others, top)
    if table.held is not None:
        found[f"put down {table.held}"] = Table(canonical((*table.stacks, (table.held,))))
    return found


def facts(table: Table) -> list[tuple[str, str]]:
    """What is on what."""
    return [pair for stack in table.stacks for pair in zip(stack, ("table", *stack[:-1]), strict=True)]


def plan(table: Table, goal: Goal) -> list[str]:
    """A shortest plan: breadth first.  Five blocks have 866 states."""
    before: dict[Table, tuple[Table, str] | None] = {table: None}
    queue = [table]
    for state in queue:
        if set(goal) <= set(facts(state)):
            steps: list[str] = []
            while (come := before[state]) is not None:
                state, move = come
                steps.append(move)
            return steps[::-1]
        for move, after in moves(state).items():
            if after not in before:
                before[after] = state, move
                queue.append(after)
    raise ValueError(f"no sequence of moves reaches {goal} from {table}: each block can be on one thing, and on no block twice")


def canonical(stacks: Sequence[Sequence[str]]) -> Stacks:
    """The table has no left and no right."""
    return tuple(sorted(tuple(stack) for stack in stacks))


def draw(rng: Random, level: str) -> dict[str, Any]:
    """Start and goal are random stacks; the goal names what is on a block, not what is on the table."""
    colours = rng.sample(COLOURS, int(level))
    while True:
        start, end = _stacks(rng, colours), _stacks(rng, colours)
        goal = [pair for pair in facts(Table(end)) if pair[1] != "table"]
        optimal = len(plan(Table(start), tuple(goal)))
        if optimal >= EASIEST:
            return {"start": start, "goal": goal, "optimal": optimal, "limit": 2 * optimal + 2}


def content(data: Any) -> object:
    """The problem without the names: the least of all its renamings."""
    colours = sorted(block for stack in data["start"] for block in stack)
    forms = []
    for numbers in permutations(range(len(colours))):
        name = dict(zip(colours, numbers, strict=True))
        start = sorted([name[block] for block in stack] for stack in data["start"])
        forms.append((start, sorted((name[a], name[b]) for a, b in data["goal"])))
    return min(forms)


def _stacks(rng: Random, colours: list[str]) -> Stacks:
    stacks: list[list[str]] = []
    for block in rng.sample(colours, len(colours)):
        if stacks and rng.random() < 0.6:
            rng.choice(stacks).append(block)
        else:
            stacks.append([block])
    return canonical(stacks)
