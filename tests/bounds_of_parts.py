"""Whether a part takes the numbers at its bounds and none beyond."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

INF = float("inf")


def check_bounds(kind: Any, bounds: dict[str, tuple[float, float]], **others: Any) -> None:
    """Each field of `bounds` may lie between its two numbers, these included; the rest of these are at their lower ones meanwhile."""
    least = others | {name: low for name, (low, _) in bounds.items()}
    for name, (low, high) in bounds.items():
        whole = get_type_hints(kind)[name] is int
        for fine in (low, high if high < INF else low + 10**9):
            assert getattr(kind(**least | {name: fine}), name) == fine
        for beyond in (low - (1 if whole else max(1e-9, 0.01 * low)), *([high + (1 if whole else 0.01)] if high < INF else [])):
            with pytest.raises(ValueError, match=f"{kind.__name__}.*{name}.*must lie"):
                kind(**least | {name: beyond})
