"""Where in a text the policy thinks, acts and speaks: one pass from left to right, shared by all action protocols.

The one idea: the first mark decides.  A block of an action that opens inside thinking is a draft; a mark of thinking inside a block is
data; a tag that is only mentioned, because it never closes or because the same tag opens again before it closes, is text.

    <think>maybe <calc>1</calc> no</think> I use <calc> tags. <calc>print("<think>")</calc>
    [----------- thought --------------]   [--- text ----]    [-------- block ------------]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from sojourn.core import Action, Failure, FailureKind

Marks = tuple[str, str]
"""Texts that open and close a part."""
THINKING: Marks = ("<think>", "</think>")
"""How the models that think write it (Qwen 3, DeepSeek R1, SmolLM 3)."""
FAULTY = "Malformed action: "
"""How every fault begins, so that a policy that repeats one is not taken to answer."""
UNQUOTABLE = str.maketrans("<>`", "()'")


class Reading(NamedTuple):
    """What a text holds.

    blocks: (name, body) of each complete block outside of thinking.  unclosed: the name of the first that is not complete.
    spoken: the text without its thinking.  thinking: whether the text ends while it thinks.
    """

    blocks: list[tuple[str, str]]
    unclosed: str | None
    spoken: str
    thinking: bool


def read(
    text: str,
    marks: Marks | None = THINKING,
    opening: str = "(?!)",
    closing: Callable[[str], str] = str,
    whole: Callable[[str, str], bool] = lambda name, body: True,
) -> Reading:
    """Read any text, in time linear in its length.

    marks: of thinking; None if there is no such part.  A close without an open belongs to thinking that the prompt has opened: all
        that comes before is thought.
    opening: a pattern whose first group is a block's name; the default never matches.  closing: the pattern that closes a block of
        that name.
    whole: whether a body that holds its own opening is to be kept as it is; else the block begins at the last opening.
    """
    thinks, thought = marks or ("", "")
    pattern = _pattern(opening, marks)
    blocks: list[tuple[str, str]] = []
    spoken: list[str] = []
    unclosed: str | None = None
    mentions: dict[str, int] = {}  # by name, up to where an opening is only mentioned
    at = start = 0
    while mark := pattern.search(text, at):
        at = mark.end()
        if marks and mark[0] == thought:
            blocks, spoken, unclosed, start = [], [], None, at
        elif marks and mark[0] == thinks:
            spoken.append(text[start : mark.start()])
            end = text.find(thought, at)
            if end < 0:
                return Reading(blocks, unclosed, "".join(spoken), True)
            at = start = end + len(thought)
        elif mark.start() >= mentions.get(name := mark[1], 0):
            close = _pattern(closing(name)).search(text, at)
            if close is None:
                mentions[name], unclosed = len(text), unclosed or name
                continue
            again = text.rfind(mark[0], at, close.start())
            if again >= 0 and not whole(name, text[at : close.start()]):
                mentions[name] = again
                continue
            blocks.append((name, text[at : close.start()]))
            at = close.end()
    return Reading(blocks, unclosed, "".join(spoken) + text[start:], False)


def tags(text: str, names: tuple[str, ...], marks: Marks | None, whole: Callable[[str, str], bool]) -> Reading:
    """Read `<name>body</name>` of each name."""
    return read(text, marks, _any_of(names), lambda name: f"</{re.escape(name)}>", whole)


@lru_cache
def _any_of(names: tuple[str, ...]) -> str:
    return f"<({'|'.join(map(re.escape, names))})>" if names else "(?!)"


@lru_cache
def _pattern(opening: str, marks: Marks | None = None) -> re.Pattern[str]:
    return re.compile("|".join([opening, *map(re.escape, marks or ())]), re.MULTILINE)


def spoken(text: str, marks: Marks | None = THINKING) -> str:
    """What a text says to the world: all but its thinking, without edge whitespace.

    >>> spoken("<think>4? no</think> 5"), spoken("<think>4")
    ('5', '')
    """
    return read(text, marks).spoken.strip()


def fault(text: str, message: str) -> Action:
    """A malformed action.  The policy reads the message and may repeat it, so no protocol may find an action in it."""
    return Action(text, fault=Failure(FailureKind.MODEL, "action", FAULTY + message))


def answered(text: str, answer: str) -> Action:
    """An action without calls, unless its answer is a fault that the policy repeats."""
    if answer.startswith(FAULTY.strip()):
        return fault(text, "this repeats what you were told; write an action instead.")
    return Action(text, answer=answer)


def quoted(text: str) -> str:
    """The policy's own words inside a fault: short, on one line, and without the marks that could make an action of them."""
    return repr(text if len(text) <= 80 else text[:77] + "...").translate(UNQUOTABLE)
