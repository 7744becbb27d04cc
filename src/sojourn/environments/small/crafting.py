"""Crafting: make the goal item from raw ones, by recipes that need other items and tools; every world has other recipes.

The one idea: a world is a random graph of 60 items in tiers.  An item of tier t needs one of tier t - 1, so the tier is the depth of a
goal, and the shortest plan is one command for each different item below it, as a command makes up to nine of an item.  Tools must be
there and are not used up.  Commands as in TextCraft (Prasad et al., arXiv 2311.05772): `get 2 wood`, `craft 1 lamp`.

Eight tasks in a row, of all levels, share a world, and a world is in one split: an agent that keeps skills can use them on the next
goal, and held-out worlds share no recipe with those of training but by chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import NamedTuple

from sojourn.core import Action, Observation, Split, Task, Transition
from sojourn.environments.small.common import SmallWorld, check_level, counted, listed, refuse, say, split_of
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol

WORDS = (
    "wood stone clay sand iron gold wool silk salt wax leaf bone glass coal tin rope cloth brick plank nail wire pipe gear lens "
    "bowl cup plate pan pot jar box bag chest shelf desk chair bed door lamp bell drum flute ring crown mask coat boot hat belt saw "
    "axe pick spade hammer knife needle oven anvil loom wheel cart boat sail net trap bow kite flag tent map book"
)
TIERS = (14, 14, 12, 10, 10)
"""Items of each tier; those of tier 0 are raw."""
TOOLS = (0, 4, 2, 0, 0)
SHARED = 8
MOST = 9
COMMAND = re.compile(r"(?:(get|craft)(?: (\d))?|(recipe)) (?:of )?([a-z]+)")


class Recipe(NamedTuple):
    """`needs` are used up, `tool` is not."""

    needs: tuple[tuple[str, int], ...]
    tool: str | None = None


@dataclass(frozen=True)
class Graph:
    """`tiers` holds all items but tools, `recipes` all that are not raw."""

    tiers: tuple[tuple[str, ...], ...]
    recipes: Mapping[str, Recipe]


class Bag(NamedTuple):
    """What the agent has, sorted, and what it ever crafted."""

    items: tuple[tuple[str, int], ...] = ()
    made: frozenset[str] = frozenset()


class Crafting(SmallWorld[Bag]):
    """`get N item` takes raw items, `craft N item` makes items, `recipe item` shows a recipe; N is 1 to 9, 1 if left out.

    Reward: `goal`, 1 when the goal item is made.  `info["items"]` counts the different items that were made so far.  What cannot be done
    costs a turn.  After twice the commands that are needed, and four, the episode is truncated.
    `task.data`: `world` (the seed of its recipes), `goal`, `shown` (the items whose recipes are shown), `optimal`, `limit`.

    book: keep the recipes in a book: the prompt shows none of them, `recipe item` has to be asked.
    """

    def __init__(self, *, book: bool = False, example: ActionProtocol | None = None) -> None:
        super().__init__(example=example)
        self._book = book

    def start(self, task: Task) -> Bag:
        self._graph = graph(task.data["world"])
        return Bag()

    def prompt(self) -> str:
        goal = self.task.data["goal"]
        raw = self._graph.tiers[0]
        rules = f"Goal: craft 1 {goal}. Commands: get 2 {raw[0]} (raw items), craft 1 {goal}, recipe {goal}."
        return "\n".join([rules, f"Raw: {listed(raw)}.", *([] if self._book else self._shown())])

    async def answer(self, action: Action) -> Transition:
        match = COMMAND.fullmatch(" ".join(answer_text(action).lower().rstrip(".").split()))
        if match is None:
            return refuse("Commands: get N item, craft N item, recipe item.")
        verb, number, look, item = match.groups()
        if look:
            return self._look(item)
        return self._get(item, int(number or 1)) if verb == "get" else self._craft(item, int(number or 1))

    def legal_actions(self) -> Sequence[str]:
        have = dict(self.state.items)
        gets = [f"get {n} {item}" for item in self._graph.tiers[0] for n in range(1, MOST + 1)]
        crafts = [f"craft {n} {item}" for item in self._graph.recipes for n in range(1, self._most(have, item) + 1)]
        return [*crafts, *gets, *(f"recipe {item}" for item in self._graph.recipes)]

    def state_key(self) -> Hashable:
        return self.task.id, self.state.items  # what was made on the way cannot be seen

    def oracle(self) -> Action:
        """The next command of a shortest plan: whatever is short, in the order of `demand`."""
        have = Counter(dict(self.state.items))
        for item, number in demand(self._graph, self.task.data["goal"], have).items():
            return say(f"{'craft' if item in self._graph.recipes else 'get'} {min(number, MOST)} {item}")
        raise AssertionError("the goal is made, the episode over")

    def _get(self, item: str, number: int) -> Transition:
        if item not in self._graph.tiers[0] or number < 1:
            return refuse(f"You cannot get {number} {item}. Raw: {listed(self._graph.tiers[0])}.")
        return self._hold(Counter(dict(self.state.items)) + Counter({item: number}))

    def _craft(self, item: str, number: int) -> Transition:
        have = Counter(dict(self.state.items))
        if item not in self._graph.recipes or number < 1:
            return refuse(f"You cannot craft {number} {item}.")
        if lacks := self._lacks(have, item, number):
            return refuse(f"To craft {number} {item} you need {counted(lacks)} more. {self._view()}")
        used = Counter({need: count * number for need, count in self._graph.recipes[item].needs})
        self.state = self.state._replace(made=self.state.made | {item})
        transition = self._hold(have - used + Counter({item: number}))
        if item != self.task.data["goal"]:
            return transition
        info = {"success": True, "items": len(self.state.made)}
        return Transition(transition.observation, {"goal": 1.0}, terminated=True, info=info)

    def _look(self, item: str) -> Transition:
        if item not in self._graph.recipes:
            return refuse(f"There is no recipe of {item}.")
        return Transition(Observation.of(recipe_text(self._graph, item)))

    def _most(self, have: Mapping[str, int], item: str) -> int:
        """How many of an item one command can make now."""
        needs, tool = self._graph.recipes[item]
        return 0 if tool and not have.get(tool) else min(MOST, *(have.get(need, 0) // count for need, count in needs))

    def _lacks(self, have: Mapping[str, int], item: str, number: int) -> dict[str, int]:
        needs, tool = self._graph.recipes[item]
        wanted = {need: count * number for need, count in needs} | ({tool: 1} if tool else {})
        return {need: count - have.get(need, 0) for need, count in wanted.items() if count > have.get(need, 0)}

    def _hold(self, items: Mapping[str, int]) -> Transition:
        self.state = self.state._replace(items=tuple(sorted(items.items())))
        return Transition(Observation.of(self._view()), info={"items": len(self.state.made)})

    def _view(self) -> str:
        return f"You have {counted(dict(self.state.items))}."

    def _shown(self) -> list[str]:
        return [recipe_text(self._graph, item) for item in self.task.data["shown"]]

    @staticmethod
    def tasks() -> CraftingTasks:
        """Levels are the depth of the goal."""
        return CraftingTasks()


@dataclass(frozen=True)
class CraftingTasks:
    """Tasks 8k to 8k + 7 of every level are in one world.  As many recipes of no use are shown as are needed."""

    levels: Sequence[str] = ("1", "2", "3", "4")

    def task(self, split: Split, level: str, index: int) -> Task:
        check_level("crafting", level, self.levels)
        worlds = Random(f"crafting/{split}/{index // SHARED}")
        world = worlds.randrange(10**9)
        while split_of(world) != split:
            world = worlds.randrange(10**9)
        rng, made = Random(f"crafting/{split}/{level}/{index}"), graph(world)
        goal = rng.choice(made.tiers[int(level)])
        needed = demand(made, goal, Counter())
        useful = [item for item in needed if item in made.recipes]
        others = [item for item in made.recipes if item not in needed]
        shown = useful + rng.sample(others, min(len(useful) + 1, len(others)))
        rng.shuffle(shown)
        optimal = sum(-(-number // MOST) for number in needed.values())
        data = {"world": world, "goal": goal, "shown": shown, "optimal": optimal, "limit": 2 * optimal + 4}
        return Task(f"crafting/{split}/{level}/{index}", data, level)


@lru_cache(maxsize=256)
def graph(world: int) -> Graph:
    """The items and recipes of a world, from its seed."""
    rng = Random(f"crafting {world}")
    names = iter(rng.sample(WORDS.split(), sum(TIERS)))
    tiers: list[tuple[str, ...]] = []
    tools: list[str] = []
    recipes: dict[str, Recipe] = {}
    for tier, (size, tool_count) in enumerate(zip(TIERS, TOOLS, strict=True)):
        items, known = [next(names) for _ in range(size)], tuple(tools)
        for item in items if tier else ():
            recipes[item] = _recipe(rng, tiers, known)
        tools += items[:tool_count]
        tiers.append(tuple(items[tool_count:]))
    return Graph(tuple(tiers), recipes)


def _recipe(rng: Random, tiers: Sequence[Sequence[str]], tools: Sequence[str]) -> Recipe:
    """One item of the tier below and up to two others, of any lower tier."""
    items = dict.fromkeys([rng.choice(tiers[-1]), *(rng.choice(rng.choice(tiers)) for _ in range(rng.randint(0, 2)))])
    needs = tuple((item, rng.randint(1, 3 if item in tiers[0] else 1 + (len(tiers) < 3))) for item in items)
    return Recipe(needs, rng.choice(tools) if tools and rng.random() < 1 / 3 else None)


def demand(made: Graph, goal: str, have: Mapping[str, int]) -> dict[str, int]:
    """What is still to be got or crafted for one goal item, and how much of each, in an order in which it can be done.

    Each item comes once, so this is a shortest plan (a command makes up to nine of an item).  From the goal down: an item that all its
    users have asked for is settled.
    """
    wanted: Counter[str] = Counter({goal: 1})
    tools: set[str] = set()
    short: dict[str, int] = {}
    for item in reversed([*made.tiers[0], *made.recipes]):  # a recipe only uses what comes before it
        number = max(wanted[item], int(item in tools)) - (have.get(item, 0) if item != goal else 0)
        if number <= 0:
            continue
        short[item] = number
        if item in made.recipes:
            needs, tool = made.recipes[item]
            wanted.update({need: count * number for need, count in needs})
            tools |= {tool} if tool else set()
    return dict(reversed(short.items()))


def recipe_text(made: Graph, item: str) -> str:
    """`lamp = 2 glass, 1 wire (tool: saw)`"""
    needs, tool = made.recipes[item]
    return f"{item} = {counted(dict(needs))}" + (f" (tool: {tool})" if tool else "")
