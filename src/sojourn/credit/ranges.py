"""Numbers that make no sense are refused where a part is made, so that no run begins with them."""

from __future__ import annotations

from typing import Any

INF = float("inf")


def within(part: Any, **bounds: tuple[float, float]) -> None:
    """Raise `ValueError` for a field of `part` that lies outside its bounds, which belong to the range; None may stay.

    >>> from sojourn.credit import TopVariance
    >>> TopVariance(share=25)
    Traceback (most recent call last):
    ValueError: TopVariance(share=25): must lie between 0 and 1
    """
    for name, (low, high) in bounds.items():
        value = getattr(part, name)
        if value is not None and not low <= value <= high:
            reach = f"between {low:g} and {high:g}" if high < INF else f"at or above {low:g}"
            raise ValueError(f"{type(part).__name__}({name}={value:g}): must lie {reach}")


def weighed(part: Any) -> None:
    """Raise `ValueError` if `part` has another number of `weights` than of `parts`."""
    if len(part.parts) != len(part.weights):
        raise ValueError(
            f"{type(part).__name__}: {len(part.parts)} parts and {len(part.weights)} weights; give each part one weight"
        )
