"""Itinerary: a journey by train through some cities, a night in each, under a budget and other constraints.

The one idea: few plans meet all constraints at once, so that one has to look, add up and plan before answering; how good a wrong plan is can
still be said in parts.  The parts are those of TravelPlanner and Planner-R1 (arXiv 2509.25779): is it a plan at all, is it one that
could be travelled, which of the constraints hold, is everything right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Any

from sojourn.core import Action, Task, ToolCall, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import ToolError, tool

CITIES = 6
MOST_VALID = 0.1
"""Of all plans, so many may be right at most."""

Plan = tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """What the parts of a plan pay beside 1 for a right one; all 0 is the sparse reward."""

    schema: float = 0.0
    sense: float = 0.0
    hard: float = 0.0


class Itinerary(SmallWorld[tuple[str, ...]]):
    """Tool `look` shows a city's hotel and trains; the answer is the cities in order, `Bipo, Mini`.  The state is what was looked at.

    The journey starts and ends at home, and a train must go at each step.  Rewards, paid for the answer, which ends the episode: `final`, 1
    if all is right, and by their weights `schema` (so many different cities as nights), `sense` (trains go), `hard` (the fraction of
    the constraints that hold, of a plan that makes sense).  `info` has all four.
    `task.data`: `home`, `hotels` (price, stars), `trains` (from, to, price), `nights`, `constraints`, `limit`.

    shown: print all cities in the prompt, so that nothing need be looked up.
    """

    def __init__(self, *, weights: Weights | None = None, shown: bool = False, example: ActionProtocol | None = None) -> None:
        super().__init__((tool(self.look, quick=True),), example=example)
        self._weights = weights or Weights()
        self._shown = shown

    def look(self, city: str) -> str:
        """shows hotel and trains of a city"""
        if city not in (*self.task.data["hotels"], self.task.data["home"]):
            raise ToolError(f"Error: there is no city {city}")
        self.state = (*self.state, city)
        return self._describe(city)

    def start(self, task: Task) -> tuple[str, ...]:
        return ()

    def prompt(self) -> str:
        data = self.task.data
        wish = " ".join(in_words(constraint) for constraint in data["constraints"])
        asked = f"Plan a journey from {data['home']} and back with {data['nights']} night{'s' * (data['nights'] > 1)}, each in another city. {wish}"
        cities = f"Cities: {', '.join(data['hotels'])}. Answer with the cities in order."
        return "\n".join(
            [asked, cities, *([self._describe(city) for city in (data["home"], *data["hotels"])] if self._shown else [])]
        )

    async def answer(self, action: Action) -> Transition:
        parts = judge(self.task.data, read_plan(answer_text(action)))
        weights = {"schema": self._weights.schema, "sense": self._weights.sense, "hard": self._weights.hard}
        paid = {name: weight * parts[name] for name, weight in weights.items() if weight}
        return Transition(
            reward={"final": parts["final"], **paid}, terminated=True, info={"success": parts["final"] == 1, **parts}
        )

    def oracle(self) -> Action:
        """Look at every city, then answer with the cheapest right plan."""
        for city in () if self._shown else (self.task.data["home"], *self.task.data["hotels"]):
            if city not in self.state:
                return Action("", (ToolCall("look", {"city": city}),))
        cheapest: Plan = min(right_plans(self.task.data), key=lambda plan: cost(self.task.data, plan))
        return Action("", answer=", ".join(cheapest))

    def _describe(self, city: str) -> str:
        trains = ", ".join(f"{to} {price}" for start, to, price in self.task.data["trains"] if start == city)
        hotel = self.task.data["hotels"].get(city)
        night = f"hotel {hotel[0]}, {hotel[1]} stars; " if hotel else ""
        return f"{city}: {night}trains to {trains}."

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of nights."""
        return DrawnTasks("itinerary", ("1", "2", "3", "4"), draw, lambda data: sorted((key, data[key]) for key in data))


def judge(data: Mapping[str, Any], plan: Plan) -> dict[str, float]:
    """The parts of a plan, each from 0 to 1; a later one is 0 if an earlier one is."""
    schema = len(plan) == data["nights"] == len(set(plan)) and set(plan) <= set(data["hotels"])
    sense = schema and cost(data, plan) < math.inf
    hard = sum(holds(data, plan, c) for c in data["constraints"]) / len(data["constraints"]) if sense else 0.0
    return {"schema": float(schema), "sense": float(sense), "hard": hard, "final": float(hard == 1)}


def cost(data: Mapping[str, Any], plan: Plan) -> float:
    """Trains and hotels; infinite if a train does not go."""
    trains = {(start, to): float(price) for start, to, price in data["trains"]}
    legs = list(zip((data["home"], *plan), (*plan, data["home"]), strict=True))
    return sum(trains.get(leg, math.inf) for leg in legs) + float(sum(data["hotels"][city][0] for city in plan))


def holds(data: Mapping[str, Any], plan: Plan, constraint: Sequence[Any]) -> bool:
    match constraint:
        case ("budget", limit):
            return bool(cost(data, plan) <= limit)
        case ("visit", city):
            return city in plan
        case ("stars", least):
            return all(data["hotels"][city][1] >= least for city in plan)
        case ("before", first, second):
            return first in plan and second in plan and plan.index(first) < plan.index(second)
    raise ValueError(f"unknown constraint {constraint}: it is budget, visit, stars or before")


def in_words(constraint: Sequence[Any]) -> str:
    words = {
        "budget": "Spend {} at most.",
        "visit": "Visit {}.",
        "stars": "Hotels have {} stars at least.",
        "before": "Visit {} before {}.",
    }
    return words[constraint[0]].format(*constraint[1:])


def read_plan(text: str) -> Plan:
    """City names with commas between, a full stop at the end or none."""
    return tuple(" ".join(part.split()) for part in re.sub(r"\.$", "", text.strip()).split(","))


def right_plans(data: Mapping[str, Any]) -> list[Plan]:
    return [plan for plan in permutations(data["hotels"], data["nights"]) if judge(data, plan)["final"] == 1]


def draw(rng: Random, level: str) -> dict[str, Any]:
    """Constraints hold for a random plan that can be travelled, and for one plan in ten at most."""
    while True:
        home, *cities = made_up(rng, CITIES + 1)
        hotels = {city: [rng.randint(2, 9) * 10, rng.randint(1, 5)] for city in cities}
        pairs = [pair for pair in permutations((home, *cities), 2) if home in pair or rng.random() < 0.6]
        trains = [[start, to, rng.randint(1, 6) * 5] for start, to in pairs]
        data: dict[str, Any] = {"home": home, "hotels": hotels, "trains": trains, "nights": int(level), "limit": CITIES + 5}
        plan = tuple(rng.sample(cities, int(level)))
        price = cost(data, plan)
        if price == math.inf:
            continue
        data["constraints"] = [["budget", int(price) + rng.randint(0, 2) * 5], *_constraints(rng, hotels, plan)]
        every = len(list(permutations(cities, int(level))))
        if len(right_plans(data)) <= max(1, MOST_VALID * every):
            return data


def _constraints(rng: Random, hotels: Mapping[str, Sequence[int]], plan: Plan) -> list[list[Any]]:
    """One of those that hold for one night, two for two, three for more."""
    found: list[list[Any]] = [["stars", min(hotels[city][1] for city in plan)], ["visit", rng.choice(plan)]]
    if len(plan) > 1:
        first, second = sorted(rng.sample(range(len(plan)), 2))
        found.append(["before", plan[first], plan[second]])
    rng.shuffle(found)
    return found[: len(plan)] if len(plan) > 1 else [found[0] if found[0][0] == "stars" else found[1]]
