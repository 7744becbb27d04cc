"""Checks that any implementation of credit and objectives can be held against.

>>> from sojourn.conformance import adapter, run
>>> all(result.passed for result in run(adapter("sojourn")).values())
True
"""

from sojourn.conformance.adapter import Adapter, NotOffered
from sojourn.conformance.checks import CHECKS, Result, as_table, run
from sojourn.conformance.ours import Ours
from sojourn.conformance.rows import Rows


def adapter(name: str) -> Adapter:
    """The adapter called `name`: "sojourn" or "trl".  Raises ValueError for another name, ImportError where TRL is missing."""
    if name == "sojourn":
        return Ours()
    if name == "trl":
        from sojourn.conformance.trl import Trl

        return Trl()
    raise ValueError(
        f"no adapter is called '{name}'; there are 'sojourn' and 'trl' (write your own: sojourn.conformance.Adapter)"
    )


__all__ = ["CHECKS", "Adapter", "NotOffered", "Result", "Rows", "adapter", "as_table", "run"]
