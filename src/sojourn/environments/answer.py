"""What an action says to the world.  Apart from the tools, so that a world without tools needs none of their packages."""

from __future__ import annotations

from sojourn.core import Action
from sojourn.rendering.reading import spoken


def answer_text(action: Action) -> str:
    """What the policy said to the world: its answer field, else all of its text but what it thought."""
    return spoken(action.text) if action.answer is None else action.answer.strip()
