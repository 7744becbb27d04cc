"""A service desk: a request in words, a database of users, orders and files, and tools that read and change it.

The one idea: what was done is judged by the database alone.  At the end it must equal, row by row, what the request asks for; a right change
together with a wrong one is wrong.  (As in tau-bench, arXiv 2406.12045, and AppWorld, arXiv 2407.18901.)

A request names things as people do (`the lamp order of Zovo`), so that from level 2 on the tools that read have to be used first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Task, ToolCall, ToolResult, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up
from sojourn.environments.small.desk import CHANGES, Database, File, Order, User, load, show, user_of
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import tool

ITEMS = ("lamp", "desk", "chair", "clock", "phone", "bike")
TOPICS = ("tax", "map", "plan", "bill", "song")
USERS, ORDERS, FILES = 4, 6, 5


Change = tuple[str, dict[str, Any]]


class Desk(NamedTuple):
    """The database, and the calls that went well."""

    database: Database
    log: tuple[str, ...] = ()


class StatefulApi(SmallWorld[Desk]):
    """Tools `user`, `orders`, `files` read; `move`, `cancel`, `redirect`, `give`, `delete`, `pay` change; an answer ends the episode.

    Reward: `state`, 1 if the database then is what the request asks for; also where the episode is truncated.  `info["wrong_rows"]` counts
    the rows that are not.  An order that was sent can be neither cancelled nor redirected.
    `task.data`: `database`, `request`, `calls` (which do what is asked for), `limit`.
    """

    def __init__(self, *, example: ActionProtocol | None = None) -> None:
        reads = (self.user, self.orders, self.files)
        changes = (self.move, self.cancel, self.redirect, self.give, self.delete, self.pay)
        super().__init__([tool(method, quick=True) for method in (*reads, *changes)], example=example)

    def user(self, name: str) -> str:
        """shows a user"""
        return show(user_of(self.state.database, name))

    def orders(self, name: str) -> str:
        """shows the orders of a user"""
        user_of(self.state.database, name)
        return "\n".join(show(order) for order in self.state.database.orders if order.user == name) or "none"

    def files(self, name: str) -> str:
        """shows the files of a user"""
        user_of(self.state.database, name)
        return "\n".join(file.name for file in self.state.database.files if file.owner == name) or "none"

    def move(self, name: str, city: str) -> str:
        """changes the city of a user"""
        return self._change("move", name=name, city=city)

    def cancel(self, order: int) -> str:
        """cancels an order"""
        return self._change("cancel", order=order)

    def redirect(self, order: int, city: str) -> str:
        """sends an order to another city"""
        return self._change("redirect", order=order, city=city)

    def give(self, file: str, name: str) -> str:
        """gives a file to another user"""
        return self._change("give", file=file, name=name)

    def delete(self, file: str) -> str:
        """deletes a file"""
        return self._change("delete", file=file)

    def pay(self, payer: str, payee: str, amount: int) -> str:
        """moves money from one user to another"""
        return self._change("pay", payer=payer, payee=payee, amount=amount)

    def start(self, task: Task) -> Desk:
        return Desk(load(task.data["database"]))

    def prompt(self) -> str:
        return f"Do what is asked, nothing else; then answer done. {self.task.data['request']}"

    async def run(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        results = await super().run(calls)
        done = [_said(call) for call, result in zip(calls, results, strict=True) if not result.error]
        self.state = self.state._replace(log=(*self.state.log, *done))
        return results

    async def truncate(self) -> Transition:
        """The database stands as it is, said or not."""
        return replace(await self.answer(Action("")), terminated=False, truncated=True)

    async def answer(self, action: Action) -> Transition:
        wanted, found = expected(self.task.data), self.state.database
        wrong = sum(len(set(a) ^ set(b)) for a, b in zip(wanted, found, strict=True))
        return Transition(reward={"state": float(wrong == 0)}, terminated=True, info={"success": wrong == 0, "wrong_rows": wrong})

    def oracle(self) -> Action:
        for name, arguments in self.task.data["calls"]:
            call = ToolCall(name, arguments)
            if _said(call) not in self.state.log:
                return Action("", (call,))
        return Action("", answer="done")

    def _change(self, change: str, /, **arguments: Any) -> str:
        self.state = self.state._replace(database=CHANGES[change](self.state.database, **arguments))
        return "ok"

    @staticmethod
    def tasks() -> DrawnTasks:
        """Level 1 names everything, 2 needs a look, 3 two looks, 4 several looks and changes."""
        return DrawnTasks("stateful_api", tuple(REQUESTS), draw, lambda data: (data["database"], data["request"]))


@dataclass
class Scene:
    """What a request may speak of: a database, two users, and an order and a file of the first."""

    database: Database
    one: User
    two: User
    order: Order
    file: File
    city: str


Request = Callable[[Scene], tuple[str, list[Change]]]

REQUESTS: dict[str, Sequence[Request]] = {
    "1": (
        lambda s: (f"Cancel order {s.order.number}.", [("cancel", {"order": s.order.number})]),
        lambda s: (f"Delete the file {s.file.name}.", [("delete", {"file": s.file.name})]),
        lambda s: (f"{s.one.name} moves to {s.city}.", [("move", {"name": s.one.name, "city": s.city})]),
        lambda s: (f"Give the file {s.file.name} to {s.two.name}.", [("give", {"file": s.file.name, "name": s.two.name})]),
    ),
    "2": (
        lambda s: (f"Cancel the {s.order.item} order of {s.one.name}.", [_orders(s), ("cancel", {"order": s.order.number})]),
        lambda s: (
            f"Send the {s.order.item} order of {s.one.name} to {s.city}.",
            [_orders(s), ("redirect", {"order": s.order.number, "city": s.city})],
        ),
        lambda s: (
            f"Pay all the money of {s.one.name} to {s.two.name}.",
            [_look(s.one), ("pay", {"payer": s.one.name, "payee": s.two.name, "amount": s.one.money})],
        ),
        lambda s: (
            f"{s.one.name} moves to the city of {s.two.name}.",
            [_look(s.two), ("move", {"name": s.one.name, "city": s.two.city})],
        ),
    ),
    "3": (
        lambda s: (
            f"Send the {s.order.item} order of {s.one.name} to the city of {s.two.name}.",
            [_orders(s), _look(s.two), ("redirect", {"order": s.order.number, "city": s.two.city})],
        ),
        lambda s: (
            f"{s.one.name} and {s.two.name} swap their cities.",
            [
                _look(s.one),
                _look(s.two),
                ("move", {"name": s.one.name, "city": s.two.city}),
                ("move", {"name": s.two.name, "city": s.one.city}),
            ],
        ),
    ),
    "4": (
        lambda s: (
            f"Cancel all open orders of {s.one.name} and give all files of {s.one.name} to {s.two.name}.",
            [
                _orders(s),
                ("files", {"name": s.one.name}),
                *[("cancel", {"order": number}) for number in _open(s)],
                *[("give", {"file": file, "name": s.two.name}) for file in _owned(s, s.one)],
            ],
        ),
        lambda s: (
            f"Send all open orders of {s.one.name} to the city of {s.two.name}, then delete the files of {s.two.name}.",
            [
                _orders(s),
                _look(s.two),
                ("files", {"name": s.two.name}),
                *[("redirect", {"order": number, "city": s.two.city}) for number in _open(s)],
                *[("delete", {"file": file}) for file in _owned(s, s.two)],
            ],
        ),
    ),
}
"""Requests of each level: the words, and calls that do it."""


def _orders(scene: Scene) -> Change:
    return "orders", {"name": scene.one.name}


def _look(user: User) -> Change:
    return "user", {"name": user.name}


def _open(scene: Scene) -> list[int]:
    return [order.number for order in scene.database.orders if order.user == scene.one.name and order.status == "open"]


def _owned(scene: Scene, user: User) -> list[str]:
    return [file.name for file in scene.database.files if file.owner == user.name]


def expected(data: Mapping[str, Any]) -> Database:
    """The database after what is asked for."""
    database = load(data["database"])
    for name, arguments in data["calls"]:
        database = CHANGES[name](database, **arguments) if name in CHANGES else database
    return database


def draw(rng: Random, level: str) -> dict[str, Any]:
    while True:
        scene = _scene(rng)
        if scene is None:
            continue
        request, calls = rng.choice(REQUESTS[level])(scene)
        rows = [list(map(list, table)) for table in scene.database]
        data = {"database": rows, "request": request, "calls": calls, "limit": len(calls) + 5}
        if expected(data) != scene.database:
            return data


def _scene(rng: Random) -> Scene | None:
    """A database and what to speak of in it; None if nothing in it will do."""
    names, cities = made_up(rng, USERS), made_up(rng, 3, syllables=3)
    users = tuple(User(name, rng.choice(cities), rng.randint(1, 9) * 10) for name in names)
    orders = tuple(
        Order(number, rng.choice(names), rng.choice(ITEMS), rng.choice(("open", "open", "sent")), rng.choice(cities))
        for number in rng.sample(range(10, 100), ORDERS)
    )
    files = tuple(File(f"{rng.choice(TOPICS)}{n}", rng.choice(names)) for n in rng.sample(range(1, 10), FILES))
    one, two = rng.sample(users, 2)
    city = rng.choice([city for city in cities if city != one.city])
    things = [(order.user, order.item) for order in orders]
    found = [
        Scene(Database(users, orders, files), one, two, order, file, city)
        for order in orders
        if order.user == one.name and order.status == "open" and order.city not in (two.city, city)
        if things.count((one.name, order.item)) == 1  # `the lamp order of Zovo` must name one
        for file in files
        if file.owner == one.name
    ]
    return rng.choice(found) if found and one.city != two.city and any(file.owner == two.name for file in files) else None


def _said(call: ToolCall) -> str:
    return f"{call.name} {sorted(call.arguments.items())}"
