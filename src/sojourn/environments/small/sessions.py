"""Sessions: events about people come one by one, and a small memory has to say what is true in the end.

The one idea: an event is new, changes a fact, ends one, or is irrelevant, and each kind asks for one operation on the memory: add, update,
delete, nothing (the four of Memory-R1, arXiv 2508.19828).  At the end the memory is asked about every fact that ever was, by a reader
that sees nothing else.  So adding everything fails (two values for one fact), and so does forgetting.

Every observation shows the whole memory: with a fresh context for each event (the program `markov`), the memory is all that is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Observation, Task, ToolCall, ToolResult, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import ToolError, tool

PHRASES = {"city": "lives in", "drink": "likes", "job": "works as", "pet": "has a"}
ASK = {"city": "Where does {} live?", "drink": "What does {} like?", "job": "What does {} work as?", "pet": "What pet has {}?"}
VALUES = {
    "city": ("rome", "bern", "oslo", "lima", "cairo"),
    "drink": ("tea", "milk", "cola", "juice", "beer"),
    "job": ("baker", "nurse", "pilot", "judge", "cook"),
    "pet": ("dog", "cat", "bird", "fish", "horse"),
}
IDLE = (
    "It rains today.",
    "The train is late.",
    "Somebody asks {} for the time.",
    "{} says hello.",
    "Nobody knows what {} thinks.",
)
UNKNOWN, BOTH = "unknown", "more than one"
LONGEST = 120

Entries = tuple[tuple[int, str], ...]


class Store(NamedTuple):
    """`event`: how many were dealt with.  `entries`: number and text.  `said`: what the policy answered to the questions so far."""

    event: int = 0
    entries: Entries = ()
    said: tuple[str, ...] = ()


class Sessions(SmallWorld[Store]):
    """Tools `add`, `update`, `delete`; a text without a call changes nothing.  Each action deals with one event, unless a call fails.

    Rewards, at the end: `kept`, the fraction of true facts that are answered right; `stale`, minus the fraction of all questions that are
    about a fact that has ended and are not answered `unknown`; and `size`, -0.05 for each entry beyond the number of true facts.  So an
    empty memory earns 0.  Success is all answers right.  `info["event"]` is the kind of event that an action dealt with, and
    `info["right"]` whether the memory then said the truth of it (for an irrelevant one: was left alone).
    `task.data`: `events` (kind, text, person, attribute, value), `limit`.

    ask: the policy gets the questions, one by one, with the memory in front of it; else a reader made of patterns answers them.
    """

    def __init__(self, *, ask: bool = False, example: ActionProtocol | None = None) -> None:
        methods = (self.add, self.update, self.delete)
        super().__init__([tool(method, quick=True) for method in methods], example=example)
        self._ask = ask

    def add(self, text: str) -> str:
        """writes an entry"""
        number = max((n for n, _ in self.state.entries), default=0) + 1
        self.state = self.state._replace(entries=(*self.state.entries, (number, text[:LONGEST])))
        return "ok"

    def update(self, id: int, text: str) -> str:
        """writes an entry anew"""
        self._find(id)
        entries = tuple((n, text[:LONGEST] if n == id else old) for n, old in self.state.entries)
        self.state = self.state._replace(entries=entries)
        return "ok"

    def delete(self, id: int) -> str:
        """removes an entry"""
        self._find(id)
        self.state = self.state._replace(entries=tuple(entry for entry in self.state.entries if entry[0] != id))
        return "ok"

    def start(self, task: Task) -> Store:
        self._events = [Event(*event) for event in task.data["events"]]
        self._questions = list(truth(self._events))
        self._before: Entries = ()
        return Store()

    def prompt(self) -> str:
        rules = "Keep the memory true: an entry for each fact, such as NAME lives in CITY, none for what is over. If nothing is new, say so."
        return f"{rules}\n{self._view()}"

    async def step(self, action: Action) -> Transition:
        self._before = self.state.entries
        return await super().step(action)

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        transition = await super().observe(results)
        # The memory that is shown next says what the calls did: a fresh context must not start with their results.
        return transition if self.state.event == len(self._events) or transition.failures else self._next()

    async def answer(self, action: Action) -> Transition:
        if self.state.event < len(self._events):
            return self._next()
        self.state = self.state._replace(said=(*self.state.said, answer_text(action).lower().rstrip(".")))
        if len(self.state.said) < len(self._questions):
            return Transition(Observation.of(self._view()))
        return self._end(self.state.said, {})

    def oracle(self) -> Action:
        if self.state.event == len(self._events):
            return Action("", answer=truth(self._events)[self._questions[len(self.state.said)]])
        event = self._events[self.state.event]
        known = [n for n, text in self.state.entries if read([(n, text)], event.person, event.attribute) != UNKNOWN]
        if event.kind == "irrelevant":
            return Action("", answer="nothing new")
        if event.kind == "deleted":
            return Action("", (ToolCall("delete", {"id": known[0]}),)) if known else Action("", answer="nothing new")
        text = fact(event.person, event.attribute, event.value)
        if known:
            return Action("", (ToolCall("update", {"id": known[0], "text": text}),))
        return Action("", (ToolCall("add", {"text": text}),))

    def _next(self) -> Transition:
        """The event is dealt with: show the next, or ask."""
        event = self._events[self.state.event]
        self.state = self.state._replace(event=self.state.event + 1)
        said = read(self.state.entries, event.person, event.attribute)
        true = truth(self._events[: self.state.event]).get((event.person, event.attribute))
        right = self.state.entries == self._before if event.kind == "irrelevant" else said == true
        info = {"event": event.kind, "right": right}
        if self.state.event < len(self._events) or self._ask:
            return Transition(Observation.of(self._view()), info=info)
        return self._end([read(self.state.entries, *question) for question in self._questions], info)

    def _end(self, said: Sequence[str], info: Mapping[str, Any]) -> Transition:
        pairs = list(zip(said, truth(self._events).values(), strict=True))
        facts = sum(true != UNKNOWN for _, true in pairs)
        kept = sum(given == true != UNKNOWN for given, true in pairs)
        stale = sum(given != true == UNKNOWN for given, true in pairs)
        size = min(0, facts - len(self.state.entries))
        reward = {"kept": kept / facts, "stale": 0.0 - stale / len(pairs), "size": 0.05 * size}
        counts = {"success": kept == facts and not stale, "entries": len(self.state.entries), "facts": facts}
        return Transition(Observation(), reward, terminated=True, info={**info, **counts})

    def _view(self) -> str:
        memory = "\n".join(f"{number}: {text}" for number, text in self.state.entries) or "empty"
        if self.state.event == len(self._events):
            person, attribute = self._questions[len(self.state.said)]
            return f"Memory:\n{memory}\nQuestion: {ASK[attribute].format(person)} Answer one word, or unknown."
        return f"Memory:\n{memory}\nEvent: {self._events[self.state.event].text}"

    def _find(self, id: int) -> None:
        if id not in dict(self.state.entries):
            raise ToolError(f"Error: there is no entry {id}")

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of events."""
        return DrawnTasks("sessions", ("4", "8", "16", "32"), draw, lambda data: data["events"])


class Event(NamedTuple):
    kind: str
    text: str
    person: str = ""
    attribute: str = ""
    value: str = ""


def fact(person: str, attribute: str, value: str) -> str:
    return f"{person} {PHRASES[attribute]} {value}"


def truth(events: Sequence[Event]) -> dict[tuple[str, str], str]:
    """What is true after these events, of everything that ever was."""
    return {(event.person, event.attribute): event.value for event in events if event.kind != "irrelevant"}


def read(entries: Sequence[tuple[int, str]], person: str, attribute: str) -> str:
    """What the entries say of a person, each about the person that it names first.

    >>> read([(1, "Zovo lives in rome, likes tea"), (2, "Mini likes cola")], "Zovo", "drink")
    'tea'
    """
    phrase = PHRASES.get(attribute, "")
    about = [text for _, text in entries if text.split()[:1] == [person] and phrase]
    said = {value for text in about for value in re.findall(rf"\b{phrase} (\w+)", text)}
    return said.pop() if len(said) == 1 else BOTH if said else UNKNOWN


def draw(rng: Random, level: str) -> dict[str, Any]:
    """At least one fact is new and one event asks for something else; at least one fact is true in the end."""
    while True:
        people, events = made_up(rng, max(2, int(level) // 4)), list[Event]()
        while len(events) < int(level):
            events.append(_event(rng, people, truth(events)))
        if len({event.kind for event in events}) > 1 and set(truth(events).values()) - {UNKNOWN}:
            return {"events": [list(event) for event in events], "limit": int(level) + len(truth(events)) + 4}


def _event(rng: Random, people: Sequence[str], true: Mapping[tuple[str, str], str]) -> Event:
    kind, person, attribute = (
        rng.choice(("new", "new", "changed", "deleted", "irrelevant")),
        rng.choice(people),
        rng.choice(list(VALUES)),
    )
    old = true.get((person, attribute), UNKNOWN)
    if kind == "irrelevant":
        return Event(kind, rng.choice(IDLE).format(person))
    if old == UNKNOWN:
        value = rng.choice(VALUES[attribute])
        return Event("new", f"{fact(person, attribute, value)}.", person, attribute, value)
    if kind == "deleted":
        return Event(kind, f"It is over: {fact(person, attribute, old)} no more.", person, attribute, UNKNOWN)
    value = rng.choice([value for value in VALUES[attribute] if value != old])
    return Event("changed", f"From now on {fact(person, attribute, value)}.", person, attribute, value)
