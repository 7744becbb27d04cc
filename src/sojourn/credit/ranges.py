"""Options that make no sense are refused where a part is made, so that no run begins with them.

`checked` makes a class a frozen, keyword-only dataclass that checks its own fields by their annotations (`core.ranges`): a choice
(`Literal`) must be one of its words, a number must be a number.  Without it `Aggregation(over="token")` would quietly be the last case
of some `if`, another algorithm.  The range of a number, and what belongs to several fields, a part says with `within`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from sojourn.core.ranges import INF, check

__all__ = ["INF", "above_zero", "checked", "weighed", "within"]

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
        check(self)
        if own is not None:
            own(self)

    kind.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(kind)


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
