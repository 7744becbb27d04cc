"""The worlds of `elsewhere_stub` in workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sojourn.environments import World, from_elsewhere

TESTS = Path(__file__).parent


@contextmanager
def stub(name: str, **how: Any) -> Iterator[World]:
    """A world in workers, which end with it."""
    world = from_elsewhere(f"elsewhere_stub:{name}", folders=[TESTS], **how)
    try:
        yield world
    finally:
        world.make.pool.close()
