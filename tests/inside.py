"""A part and the parts within it, as they are written: for tests that look for a kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any


def inside(part: Any) -> Iterator[Any]:
    """Outermost first; a preset is a part, too."""
    if isinstance(part, tuple):
        for item in part:
            yield from inside(item)
    elif part is not None and not isinstance(part, str | int | float | bool):
        yield part
        if is_dataclass(part):
            for field in fields(part):
                yield from inside(getattr(part, field.name))
