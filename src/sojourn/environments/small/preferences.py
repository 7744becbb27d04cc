"""Preferences: a household agent prepares things for somebody it does not know, and may ask, which costs a little.

The one idea: some wishes can be told from what is seen of the person (a child wants milk, whoever is tired wants dim light: the same for all
people), others are chance.  So never asking and always asking both lose against asking where it is needed, and that has to be
learned from other people.  After ADAPT (arXiv 2504.04040), in which a household agent asks for hidden preferences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Observation, Task, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up, refuse, say
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol

SLOTS = {
    "drink": ("milk", "coffee", "tea"),
    "seat": ("floor", "chair", "sofa"),
    "light": ("dim", "bright"),
    "music": ("none", "jazz", "pop"),
    "bread": ("toast", "roll", "cake"),
    "spread": ("jam", "honey", "cheese"),
    "room": ("kitchen", "garden", "hall"),
    "plate": ("red", "blue", "white"),
}
TRAITS = {"age": ("child", "adult", "elder"), "mood": ("tired", "awake")}
TOLD = {
    "drink": ("age", {"child": "milk", "adult": "coffee", "elder": "tea"}),
    "seat": ("age", {"child": "floor", "adult": "chair", "elder": "sofa"}),
    "light": ("mood", {"tired": "dim", "awake": "bright"}),
    "music": ("mood", {"tired": "none", "awake": "pop"}),
}
"""Wishes that a trait tells; those for the other slots are chance."""


class Service(NamedTuple):
    """Slots that were asked for, and what was given, in order."""

    asked: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()


class Preferences(SmallWorld[Service]):
    """`ask drink` is answered truly; `give tea` fills a slot for good.  The episode ends when all are filled.

    Rewards: `satisfied`, one part in n for each of n slots that is filled as wished; `question`, minus `price` for each question.
    Success is all slots as wished, however many questions that took.
    `task.data`: `name`, `traits`, `wishes` (by slot), `limit`.

    price: of one question.  With 0 asking always is best; above 1 / n never asking is.
    """

    def __init__(self, *, price: float = 0.05, example: ActionProtocol | None = None) -> None:
        super().__init__(example=example)
        self._price = price

    def start(self, task: Task) -> Service:
        return Service()

    def prompt(self) -> str:
        name, (age, mood) = self.task.data["name"], self.task.data["traits"]
        slots = "; ".join(f"{slot}: {' or '.join(SLOTS[slot])}" for slot in self._wishes)
        return f"{name} is {'an' if age[0] in 'ae' else 'a'} {age} and {mood}. Choose {slots}. Say give X or ask SLOT; a question costs."

    async def answer(self, action: Action) -> Transition:
        said = " ".join(answer_text(action).lower().rstrip(".").split())
        if said not in self.legal_actions():
            return refuse(f"Say give X or ask SLOT. {self._left()}")
        verb, what = said.split()
        return self._answer(what) if verb == "ask" else self._give(what)

    def legal_actions(self) -> Sequence[str]:
        left = [slot for slot in self._wishes if slot not in dict(self.state.given)]
        asks = [f"ask {slot}" for slot in left if slot not in self.state.asked]
        return [*(f"give {value}" for slot in left for value in SLOTS[slot]), *asks]

    def oracle(self) -> Action:
        """Ask where chance decides, else read the traits."""
        slot = next(slot for slot in self._wishes if slot not in dict(self.state.given))
        known = slot in TOLD or slot in self.state.asked
        return say(f"give {self._wishes[slot]}" if known else f"ask {slot}")

    @property
    def _wishes(self) -> Mapping[str, str]:
        wishes: Mapping[str, str] = self.task.data["wishes"]
        return wishes

    def _answer(self, slot: str) -> Transition:
        self.state = self.state._replace(asked=(*self.state.asked, slot))
        observation = Observation.of(f"{self.task.data['name']}: {self._wishes[slot]}. {self._left()}")
        return Transition(observation, {"question": -self._price})

    def _give(self, value: str) -> Transition:
        slot = next(slot for slot in self._wishes if value in SLOTS[slot])
        self.state = self.state._replace(given=(*self.state.given, (slot, value)))
        paid = {"satisfied": float(self._wishes[slot] == value) / len(self._wishes)}
        if len(self.state.given) < len(self._wishes):
            return Transition(Observation.of(self._left()), paid)
        return Transition(Observation(), paid, terminated=True, info={"success": dict(self.state.given) == dict(self._wishes)})

    def _left(self) -> str:
        return f"Left: {', '.join(slot for slot in self._wishes if slot not in dict(self.state.given))}."

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of slots."""
        return DrawnTasks(
            "preferences", ("2", "3", "4", "6"), draw, lambda data: (data["traits"], sorted(data["wishes"].items()))
        )


def draw(rng: Random, level: str) -> dict[str, Any]:
    """About half of the slots can be told from the traits."""
    traits = {trait: rng.choice(values) for trait, values in TRAITS.items()}
    told = rng.sample(list(TOLD), int(level) // 2)
    chance = rng.sample([slot for slot in SLOTS if slot not in TOLD], int(level) - len(told))
    slots = rng.sample([*told, *chance], int(level))
    wishes = {slot: TOLD[slot][1][traits[TOLD[slot][0]]] if slot in TOLD else rng.choice(SLOTS[slot]) for slot in slots}
    return {"name": made_up(rng, 1)[0], "traits": list(traits.values()), "wishes": wishes, "limit": 2 * int(level) + 4}
