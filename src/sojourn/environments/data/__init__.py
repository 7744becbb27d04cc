"""Data: questions about databases."""

from sojourn.environments.data.database import Database, QueryError, same_result
from sojourn.environments.data.spider import spider_world
from sojourn.environments.data.sql import TextToSql, sql_world

__all__ = ["Database", "QueryError", "TextToSql", "same_result", "spider_world", "sql_world"]
