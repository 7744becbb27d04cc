"""The database of the service desk: rows, and the changes that the tools make, as functions from one database to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sojourn.tools import ToolError


class User(NamedTuple):
    name: str
    city: str
    money: int


class Order(NamedTuple):
    number: int
    user: str
    item: str
    status: str
    city: str


class File(NamedTuple):
    name: str
    owner: str


class Database(NamedTuple):
    users: tuple[User, ...]
    orders: tuple[Order, ...]
    files: tuple[File, ...]


def user_of(database: Database, name: str) -> User:
    user: User = _row(database.users, f"user '{name}'", lambda row: row.name == name)
    return user


def _row(rows: Sequence[Any], what: str, is_it: Callable[[Any], bool]) -> Any:
    for row in rows:
        if is_it(row):
            return row
    raise ToolError(f"Error: there is no {what}")


def _swap(rows: tuple[Any, ...], old: Any, *new: Any) -> tuple[Any, ...]:
    return tuple(after for row in rows for after in (new if row == old else (row,)))


def _move(database: Database, name: str, city: str) -> Database:
    user = user_of(database, name)
    return database._replace(users=_swap(database.users, user, user._replace(city=city)))


def _order(database: Database, number: int, **change: str) -> Database:
    order = _row(database.orders, f"order {number}", lambda row: row.number == number)
    if order.status != "open":
        raise ToolError(f"Error: order {number} is {order.status}")
    return database._replace(orders=_swap(database.orders, order, order._replace(**change)))


def _file(database: Database, name: str) -> Any:
    return _row(database.files, f"file '{name}'", lambda row: row.name == name)


def _give(database: Database, file: str, name: str) -> Database:
    old = _file(database, file)
    return database._replace(files=_swap(database.files, old, old._replace(owner=user_of(database, name).name)))


def _pay(database: Database, payer: str, payee: str, amount: int) -> Database:
    source, target = user_of(database, payer), user_of(database, payee)
    if not 0 < amount <= source.money or source == target:
        raise ToolError(f"Error: {payer} has {source.money}")
    users = _swap(database.users, source, source._replace(money=source.money - amount))
    return database._replace(users=_swap(users, target, target._replace(money=target.money + amount)))


CHANGES: dict[str, Callable[..., Database]] = {
    "move": _move,
    "cancel": lambda database, order: _order(database, order, status="cancelled"),
    "redirect": lambda database, order, city: _order(database, order, city=city),
    "give": _give,
    "delete": lambda database, file: database._replace(files=_swap(database.files, _file(database, file))),
    "pay": _pay,
}
"""What changes the database, as functions of it."""


def load(rows: Sequence[Sequence[Sequence[Any]]]) -> Database:
    users, orders, files = rows
    return Database(tuple(User(*row) for row in users), tuple(Order(*row) for row in orders), tuple(File(*row) for row in files))


def show(row: User | Order) -> str:
    """`number 14, user Zovo, item lamp, status open, city Bipo`"""
    return ", ".join(f"{field} {value}" for field, value in row._asdict().items())
