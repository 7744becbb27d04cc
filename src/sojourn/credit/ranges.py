"""Options that make no sense are refused where a part is made, so that no run begins with them.

`checked` makes a class a frozen, keyword-only dataclass that checks its own fields by their annotations: a choice (`Literal`) must be one
of its words, a number must be a number.  Without it `Aggregation(over="token")` would quietly be the last case of some `if`, another
algorithm.  What the annotation cannot say, the range of a number, a part says with `within`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

INF = float("inf")
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def checked(kind: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass that raises `ValueError` for a field that is not what its annotation says.

    >>> from sojourn.objectives import Aggregation
    >>> Aggregation(over="token")
    Traceback (most recent call last):
    ValueError: Aggregation(over='token'): must be one of tokens, sequences, sequence_sums, constant, prompts; did you mean 'tokens'?
    """
    own: Callable[[Any], None] | None = getattr(kind, "__post_init__", None)

    def __post_init__(self: Any) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if reason := _wrong(value, hints[field.name]):
                raise ValueError(f"{type(self).__name__}({field.name}={value!r}): {reason}")
        if own is not None:
            own(self)

    kind.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(kind)


def _wrong(value: Any, annotation: Any) -> str:
    """Why `value` is no instance of the annotation, or ''.  Choices, numbers, and tuples and mappings of them are judged; nothing
    else is, for a type checker does that better."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        if value is None and type(None) in inner:
            return ""
        reasons = [_wrong(value, each) for each in inner if each is not type(None)]
        return "" if "" in reasons else reasons[0]
    if origin is Literal:
        return "" if value in inner else _not_among(value, inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return "must be a tuple; for one item write (item,)"
        return next((reason for each in value if (reason := _wrong(each, inner[0]))), "")
    if origin is Mapping:
        return next((f"{name}: {reason}" for name, each in value.items() if (reason := _wrong(each, inner[1]))), "")
    return _not_a_number(value, annotation)


def _not_among(value: Any, choices: tuple[str, ...]) -> str:
    near = get_close_matches(str(value), choices, 1, 0.4)
    return f"must be one of {', '.join(choices)}" + (f"; did you mean '{near[0]}'?" if near else "")


def _not_a_number(value: Any, annotation: Any) -> str:
    if annotation is bool:
        return "" if isinstance(value, bool) else "must be True or False"
    if annotation is int:
        return "" if isinstance(value, Integral) and not isinstance(value, bool) else "must be a whole number"
    if annotation is float:
        return "" if isinstance(value, Real) and not isinstance(value, bool) and value == value else "must be a number"
    return ""


def within(owner: Any, **bounds: tuple[float, float]) -> None:
    """Raise `ValueError` for a field of `owner` that lies outside its bounds, which belong to the range; None may stay.

    >>> from sojourn.credit import TopVariance
    >>> TopVariance(share=25)
    Traceback (most recent call last):
    ValueError: TopVariance(share=25): must lie between 0 and 1
    """
    for name, (low, high) in bounds.items():
        value = getattr(owner, name)
        if value is not None and not low <= value <= high:
            reach = f"between {low:g} and {high:g}" if high < INF else f"at or above {low:g}"
            raise ValueError(f"{type(owner).__name__}({name}={value:g}): must lie {reach}")


def above_zero(function: str, **numbers: float) -> None:
    """Raise `ValueError` for an argument of `function` that must be above 0, because something is divided by it."""
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{function}({name}={value:g}): must lie above 0")


def weighed(owner: Any) -> None:
    """Raise `ValueError` if `owner` has another number of `weights` than of `parts`, or a weight that is infinite."""
    if len(owner.parts) != len(owner.weights):
        raise ValueError(
            f"{type(owner).__name__}: {len(owner.parts)} parts and {len(owner.weights)} weights; give each part one weight"
        )
    if any(abs(weight) == INF for weight in owner.weights):
        raise ValueError(f"{type(owner).__name__}(weights={owner.weights}): must be finite")
