"""What an option may be, said beside its type and checked where a config is made, for the command line and Python alike.

    groups: Annotated[int, Range(1)] = 8

`check(self)` in `__post_init__` holds every field against its annotation: numbers are numbers (NaN is none), a `Literal` is one of its
words, a `Range` and `NotEmpty` hold, in tuples and mappings too, a config is one (it has checked itself when it was made).
Nothing else is judged; a type checker does that better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `low` to `high`, which belong to it unless `above` or `below` leaves them out.

    >>> str(Range(1)), str(Range(0, 1, below=True))
    ('at least 1', 'at least 0 and below 1')
    """

    low: float = -INF
    high: float = INF
    above: bool = False
    """Without `low` itself."""
    below: bool = False
    """Without `high` itself."""

    def __contains__(self, value: float) -> bool:
        inside = self.low < value if self.above else self.low <= value
        return math.isfinite(value) and inside and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        ends = []
        if self.low > -INF:
            ends.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if self.high < INF:
            ends.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        return " and ".join(ends) or "finite"


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """A text of more than spaces, or a tuple with something in it."""

    def __contains__(self, value: Any) -> bool:
        return bool(value.strip() if isinstance(value, str) else value)

    def __str__(self) -> str:
        return "non-empty"


def check(owner: object) -> None:
    """Raise `ValueError`, with field, value and range, for a field of the dataclass `owner` that is not what its annotation says.

    >>> @dataclass(frozen=True)
    ... class Config:
    ...     mode: Literal["sampled", "greedy"]
    ...     def __post_init__(self) -> None: check(self)
    >>> Config("greed")
    Traceback (most recent call last):
    ValueError: Config(mode='greed'): must be one of sampled, greedy; did you mean 'greedy'?
    """
    kind: Any = type(owner)
    for name, annotation in _hints(kind):
        if reason := wrong(getattr(owner, name), annotation):
            raise ValueError(f"{kind.__name__}({name}={getattr(owner, name)!r}): {reason}")


@cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Each field with its annotation; more than one where a subclass annotates it anew, for a new default must not lose the range."""
    names = {field.name for field in fields(kind)}
    bases = [get_type_hints(base, include_extras=True) for base in reversed(kind.__mro__)]
    found = [(name, annotation) for hints in bases for name, annotation in hints.items() if name in names]
    return tuple(pair for place, pair in enumerate(found) if pair not in found[:place])


def wrong(value: Any, annotation: Any) -> str:
    """Why `value` is not what the annotation says, or ''."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [each for each in inner[1:] if isinstance(each, (Range, NotEmpty))]
        if reason := wrong(value, inner[0]):
            return ", ".join((reason, *map(str, limits)))
        return next((f"must be {limit}" for limit in limits if value is not None and value not in limit), "")
    if origin in (Union, UnionType):
        if value is None and type(None) in inner:
            return ""
        reasons = [wrong(value, each) for each in inner if each is not type(None)]
        return "" if "" in reasons else reasons[0]
    if origin is Literal:
        return "" if value in inner else _not_among(value, inner)
    if origin is tuple and inner:
        return _wrong_in_tuple(value, inner)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return "must be a mapping"
        return next((f"{name}: {reason}" for name, each in value.items() if (reason := wrong(each, inner[1]))), "")
    if isinstance(annotation, type) and is_dataclass(annotation):
        return "" if isinstance(value, annotation) else f"must be a {annotation.__name__}"
    return _not_a_number(value, annotation)


def _wrong_in_tuple(value: Any, inner: tuple[Any, ...]) -> str:
    if not isinstance(value, tuple):
        return "must be a tuple; for one item write (item,)"
    each = inner[:1] * len(value) if inner[1:] == (...,) else inner
    if len(each) != len(value):
        return f"must have {len(each)} items"
    return next((reason for item, kind in zip(value, each, strict=True) if (reason := wrong(item, kind))), "")


def _not_among(value: Any, choices: tuple[Any, ...]) -> str:
    near = get_close_matches(str(value), map(str, choices), 1, 0.4)
    return f"must be one of {', '.join(map(str, choices))}" + (f"; did you mean '{near[0]}'?" if near else "")


def _not_a_number(value: Any, annotation: Any) -> str:
    if annotation is bool:
        return "" if isinstance(value, bool) else "must be True or False"
    if annotation is int:
        return "" if isinstance(value, Integral) and not isinstance(value, bool) else "must be a whole number"
    if annotation is float:
        return "" if isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value) else "must be a number"
    return ""
