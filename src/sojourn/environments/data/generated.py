"""Databases of two tables and questions about them, drawn from a seed, each question with its query.

The one idea: a question has two databases, of one schema and different rows; a query is right if it gives what the gold query gives in
both.  So rows copied from what was seen, or a condition that happens to hold, do not pass (test-suite accuracy, Zhong et al., arXiv
2010.02840).  Questions with the same gold query are in one split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from sojourn.environments.data.database import Database
from sojourn.environments.small.common import DrawnTasks, made_up

LEVELS = ("one table", "groups", "joins")
CONDITIONS = ((">", "more than"), ("<", "less than"))


class Domain(NamedTuple):
    """Parents have a name, a kind and a number; their children a label, a state and a number."""

    parent: str
    child: str
    kind: tuple[str, tuple[str, ...]]
    size: str
    state: tuple[str, tuple[str, ...]]
    amount: str


DOMAINS = (
    Domain(
        "shop", "sale", ("city", ("Bern", "Graz", "Oslo", "Rome")), "staff", ("payment", ("card", "cash", "voucher")), "price"
    ),
    Domain("band", "song", ("genre", ("folk", "jazz", "rock", "soul")), "founded", ("mood", ("calm", "sad", "wild")), "seconds"),
    Domain(
        "farm",
        "animal",
        ("region", ("coast", "hills", "plain", "valley")),
        "hectares",
        ("species", ("cow", "goat", "hen")),
        "weight",
    ),
    Domain(
        "school",
        "pupil",
        ("district", ("east", "north", "south", "west")),
        "rooms",
        ("grade", ("first", "second", "third")),
        "score",
    ),
    Domain(
        "team",
        "player",
        ("league", ("amber", "bronze", "gold", "silver")),
        "points",
        ("position", ("back", "centre", "wing")),
        "goals",
    ),
    Domain(
        "museum",
        "vase",
        ("quarter", ("dock", "hill", "lake", "old")),
        "halls",
        ("material", ("bronze", "clay", "glass")),
        "height",
    ),
)


def schema(domain: Domain) -> str:
    """The two statements that make its tables."""
    p, c = domain.parent, domain.child
    return (
        f"CREATE TABLE {p} (id INTEGER PRIMARY KEY, name TEXT, {domain.kind[0]} TEXT, {domain.size} INTEGER);\n"
        f"CREATE TABLE {c} (id INTEGER PRIMARY KEY, label TEXT, {domain.state[0]} TEXT, {domain.amount} INTEGER, "
        f"{p}_id INTEGER REFERENCES {p}(id));"
    )


def scripts(data: Mapping[str, Any]) -> tuple[str, str]:
    """The database that is shown and the hidden one."""
    domain = DOMAINS[data["domain"]]
    shown, hidden = (_rows(domain, Random(f"{data['seed']} {which}")) for which in ("shown", "hidden"))
    return f"{schema(domain)}\n{shown}", f"{schema(domain)}\n{hidden}"


def _rows(domain: Domain, rng: Random) -> str:
    """Eight parents, of which the last two have no children, and thirty children."""
    names, labels = made_up(rng, 8), made_up(rng, 30, 3)
    parents = [(i, name, rng.choice(domain.kind[1]), rng.randint(5, 95)) for i, name in enumerate(names, 1)]
    children = [
        (i, label, rng.choice(domain.state[1]), rng.randint(5, 95), rng.randint(1, len(names) - 2))
        for i, label in enumerate(labels, 1)
    ]
    tables = ((domain.parent, parents), (domain.child, children))
    return "".join(f"INSERT INTO {table} VALUES {', '.join(map(repr, rows))};\n" for table, rows in tables)


def sql_tasks() -> DrawnTasks:
    """Questions of three levels: about one table, about groups of its rows, about both tables."""
    return DrawnTasks("sql", LEVELS, draw, lambda data: data["gold"])


def draw(rng: Random, level: str) -> dict[str, Any]:
    """A question whose gold query gives something in both databases, and not the same."""
    while True:
        index, seed = rng.randrange(len(DOMAINS)), rng.randrange(10**9)
        question, gold = rng.choice(list(ASKED[level](DOMAINS[index], rng)))
        data = {"domain": index, "seed": seed, "question": question, "gold": gold, "ordered": "ORDER BY" in gold, "limit": 6}
        shown, hidden = (_result(script, gold) for script in scripts(data))
        if shown and hidden and shown != hidden:
            return data


def _result(script: str, query: str) -> list[tuple[Any, ...]]:
    database = Database(script)
    rows = database.run(query).rows
    database.close()
    return rows


def _one_table(d: Domain, rng: Random) -> Iterator[tuple[str, str]]:
    for table, name, (kind, kinds), number in ((d.parent, "name", d.kind, d.size), (d.child, "label", d.state, d.amount)):
        (sign, words), bound, value = rng.choice(CONDITIONS), rng.randint(20, 80), rng.choice(kinds)
        yield f"How many {table}s have {kind} {value}?", f"SELECT count(*) FROM {table} WHERE {kind} = '{value}'"
        yield (
            f"What are the {name}s of the {table}s with {words} {bound} {number}?",
            f"SELECT {name} FROM {table} WHERE {number} {sign} {bound}",
        )
        yield (
            f"How many {table}s have {kind} {value} and {words} {bound} {number}?",
            f"SELECT count(*) FROM {table} WHERE {kind} = '{value}' AND {number} {sign} {bound}",
        )
        way, function = rng.choice((("largest", "max"), ("smallest", "min"), ("average", "avg"), ("total", "sum")))
        yield (
            f"What is the {way} {number} of the {table}s with {kind} {value}?",
            f"SELECT {function}({number}) FROM {table} WHERE {kind} = '{value}'",
        )


def _groups(d: Domain, rng: Random) -> Iterator[tuple[str, str]]:
    for table, name, (kind, kinds), number in ((d.parent, "name", d.kind, d.size), (d.child, "label", d.state, d.amount)):
        bound, most, value = rng.randint(1, 9), rng.randint(2, 5), rng.choice(kinds)
        yield f"For each {kind}, how many {table}s are there?", f"SELECT {kind}, count(*) FROM {table} GROUP BY {kind}"
        way, function = rng.choice((("largest", "max"), ("smallest", "min"), ("average", "avg"), ("total", "sum")))
        yield (
            f"For each {kind}, what is the {way} {number} of its {table}s?",
            f"SELECT {kind}, {function}({number}) FROM {table} GROUP BY {kind}",
        )
        yield (
            f"Which {kind}s have more than {bound} {table}s?",
            f"SELECT {kind} FROM {table} GROUP BY {kind} HAVING count(*) > {bound}",
        )
        yield (
            f"What are the {name}s of the {most} {table}s with the largest {number}, largest first, and equal ones by {name}?",
            f"SELECT {name} FROM {table} ORDER BY {number} DESC, {name} LIMIT {most}",
        )
        yield (
            f"What are the {name} and {number} of the {table}s with {kind} {value}, by {name}?",
            f"SELECT {name}, {number} FROM {table} WHERE {kind} = '{value}' ORDER BY {name}",
        )


def _joins(d: Domain, rng: Random) -> Iterator[tuple[str, str]]:
    p, c, (kind, kinds), (state, states) = d.parent, d.child, d.kind, d.state
    join = f"FROM {c} JOIN {p} ON {c}.{p}_id = {p}.id"
    (sign, words), bound, value, held = rng.choice(CONDITIONS), rng.randint(20, 80), rng.choice(kinds), rng.choice(states)
    few = rng.randint(2, 6)
    yield f"How many {c}s belong to {p}s with {kind} {value}?", f"SELECT count(*) {join} WHERE {p}.{kind} = '{value}'"
    yield (
        f"What are the labels of the {c}s with {state} {held} of {p}s with {kind} {value}?",
        f"SELECT {c}.label {join} WHERE {c}.{state} = '{held}' AND {p}.{kind} = '{value}'",
    )
    yield (
        f"For each {kind} of {p}s that have {c}s, what is the average {d.amount} of their {c}s?",
        f"SELECT {p}.{kind}, avg({c}.{d.amount}) {join} GROUP BY {p}.{kind}",
    )
    yield (
        f"What are the names of the {p}s without any {c} with {words} {bound} {d.amount}?",
        f"SELECT name FROM {p} WHERE id NOT IN (SELECT {p}_id FROM {c} WHERE {d.amount} {sign} {bound})",
    )
    yield (
        f"What are the names of the {p}s with more than {few} {c}s?",
        f"SELECT {p}.name {join} GROUP BY {p}.id HAVING count(*) > {few}",
    )
    yield (
        f"What is the total {d.amount} of the {c}s of {p}s with {words} {bound} {d.size}?",
        f"SELECT sum({c}.{d.amount}) {join} WHERE {p}.{d.size} {sign} {bound}",
    )


ASKED = {"one table": _one_table, "groups": _groups, "joins": _joins}
