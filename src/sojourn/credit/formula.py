"""What a credit computes, as text: each part carries its `formula` next to its code, and parts made of parts put theirs together.

Lines are in the order of what is done: `A = ...` defines, `A <- ...` replaces; mean(x | group) is the mean of x over the group.
"""

from __future__ import annotations

LEGEND = (
    "A_t of a token, A_s of an action, A of an episode;  R return, G return that follows, r reward (in the loss: ratio), V value"
)


def formula(part: object, arguments: str = "columns") -> str:
    """The formula of a credit or of a transform.  A function of your own, which has none, is written as a call.

    >>> formula(lambda columns: columns.reward_T)
    'A = <lambda>(columns)'
    """
    found = getattr(part, "formula", None)
    return found if isinstance(found, str) else f"A = {getattr(part, '__name__', type(part).__name__)}({arguments})"
