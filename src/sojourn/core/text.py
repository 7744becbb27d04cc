"""The one door for text: what models, tools and users write becomes text that can be encoded.

A Python string may hold surrogates, halves of a UTF-16 pair that no UTF-8 has a code for: `json.loads('"\\\\ud83d"')` makes one of plain
ASCII.  A tokenizer, a JSON file and Parquet refuse such a string, long after it came in.  So messages, calls, results, actions and
failures pass their text through `well_formed` when they are made, and nothing behind them has to ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """`text` itself where it can be encoded; else a pair of surrogates becomes its character and a lone one U+FFFD.

    >>> well_formed("a" + chr(0xD83D) + "b" + chr(0xD83D) + chr(0xDE00)) == "a\\ufffdb\\U0001f600"
    True
    """
    if text.isascii() or SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def well_formed_values(value: T) -> T:
    """The same for all strings in a value of JSON; a value without surrogates comes back as it is, not as a copy."""
    if isinstance(value, str):
        return well_formed(value)  # type: ignore[return-value]
    old: list[Any]
    if isinstance(value, Mapping):
        old = [*value, *value.values()]
    elif isinstance(value, (list, tuple)):
        old = [*value]
    else:
        return value
    parts = [well_formed_values(part) for part in old]
    if all(a is b for a, b in zip(parts, old, strict=True)):
        return value
    new: Any = tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, Mapping):
        new = dict(zip(parts[: len(value)], parts[len(value) :], strict=True))
    return new  # type: ignore[no-any-return]


def settle(owner: object, *names: str) -> None:
    """Make the fields `names` of a frozen dataclass well-formed; call it in `__post_init__`."""
    for name in names:
        value = getattr(owner, name)
        new = well_formed_values(value)
        if new is not value:
            object.__setattr__(owner, name, new)
