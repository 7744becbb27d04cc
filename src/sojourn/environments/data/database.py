"""A SQLite database that a policy's queries may read, and nothing else: none writes, none hangs, none fills the memory.

The one idea: the database is made in memory by a script and then locked.  SQLite's authorizer refuses all that is not reading, its
progress handler ends a query after so many steps of its virtual machine (a count, so the same query ends at the same place on every
machine), and its limits bound the length of texts.  Few steps can still be slow ones (`instr` of long texts): those end after a second of the
processor, by the thread's own time, so that a busy machine does not count.  See https://www.sqlite.org/security.html.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

STEPS, STRIDE, CPU_S = 500_000, 100, 1.0
MOST_ROWS = 2000
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 5000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
REFUSED = {"load_extension", "random", "randomblob"}
"""Functions that reach outside, or whose result is not a function of the database."""

Row = tuple[Any, ...]


class QueryError(ValueError):
    """The query cannot be run; the message is for its author."""


class Rows(NamedTuple):
    columns: tuple[str, ...]
    rows: list[Row]


class Database:
    """What the script made, to be read.

    steps: of SQLite's virtual machine that a query may take; half a million are some hundredths of a second.
    """

    def __init__(self, script: str, *, steps: int = STEPS) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.executescript(script)
        self._steps, self._left, self._ends = steps, 0, 0.0
        self._lock = threading.Lock()
        for limit, value in LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_progress_handler(self._progress, STRIDE)
        self._connection.set_authorizer(_authorize)

    def run(self, query: str) -> Rows:
        """The result of one SELECT.  Raises `QueryError` for anything else, and for a query over its budget.  Threads take turns."""
        with self._lock:
            return self._run(query)

    def _run(self, query: str) -> Rows:
        self._left, self._ends = self._steps, time.thread_time() + CPU_S
        try:
            cursor = self._connection.execute(query)
            columns = tuple(column for column, *_ in cursor.description or ())
            rows = cursor.fetchmany(MOST_ROWS + 1)
            cursor.close()
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise QueryError(self._explain(error)) from error
        if len(rows) > MOST_ROWS:
            raise QueryError(f"the result has more than {MOST_ROWS} rows")
        return Rows(columns, rows)

    def close(self) -> None:
        with self._lock:  # a query may still run, in the thread of an episode that was cut
            self._connection.close()

    def _progress(self) -> bool:
        self._left -= STRIDE
        return self._left < 0 or time.thread_time() > self._ends

    def _explain(self, error: Exception) -> str:
        if str(error) == "interrupted":
            return f"the query took more than {self._steps} steps or {CPU_S:g} s of the processor"
        return "only one SELECT is allowed" if "not authorized" in str(error) else str(error)


def same_result(said: Sequence[Row], right: Sequence[Row], *, ordered: bool) -> bool:
    """Execution match: equal rows, each as often, in the same order where the question asks for one.  Columns have their order; 3 is 3.0,
    and numbers that agree to nine digits are equal.

    >>> same_result([(2,), (1.0,)], [(1,), (2,)], ordered=False), same_result([(2,), (1,)], [(1,), (2,)], ordered=True)
    (True, False)
    """
    mine, theirs = ([tuple(map(_value, row)) for row in rows] for rows in (said, right))
    return mine == theirs if ordered else Counter(mine) == Counter(theirs)


def _value(value: Any) -> Any:
    return ("number", f"{float(value):.9g}") if isinstance(value, int | float) else value


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = action in READING and not (action == sqlite3.SQLITE_FUNCTION and second in REFUSED)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
