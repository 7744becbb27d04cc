"""Observations that fit: the middle of a long text is left out, and the policy is told so.

The one idea: a limit in tokens, because the context is one.  Short messages stay as they are; the long ones share what is left, each
its head and its tail, with a mark between that says how much is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sojourn.core import Message, Text

LEFT_OUT = "\n... [{} tokens left out] ...\n"

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]


def shortened(messages: Sequence[Message], limit: int, encode: Encode, decode: Decode) -> tuple[Message, ...]:
    """The messages, their texts together at most `limit` tokens long, as far as marks alone leave room.

    A text never has more tokens than bytes, so that short ones need not be encoded.  Messages with pictures are left alone.
    """
    if sum(len(message.text.encode()) for message in messages) <= limit:
        return tuple(messages)
    ids = [encode(message.text) for message in messages]
    shares = fair([len(found) for found in ids], limit)
    return tuple(
        replace(message, parts=(Text(middle_out(message.text, found, share, encode, decode)),))
        if len(found) > share and all(isinstance(part, Text) for part in message.parts)
        else message
        for message, found, share in zip(messages, ids, shares, strict=True)
    )


def fair(sizes: Sequence[int], limit: int) -> list[int]:
    """Shares of `limit`: a size below the mean of what is left gets all it wants, the others the same.

    >>> fair([10, 2, 50], 32)
    [10, 2, 20]
    """
    shares = [0] * len(sizes)
    left = limit
    for rank, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[index] = min(sizes[index], left // (len(sizes) - rank))
        left -= shares[index]
    return shares


def middle_out(text: str, ids: Sequence[int], limit: int, encode: Encode, decode: Decode) -> str:
    """Head and tail of a text of the tokens `ids`, with a mark between: `limit` tokens at most, or the mark alone.  A text that is no
    longer than a mark stays as it is."""
    mark = len(encode(LEFT_OUT.format(len(ids))))
    if len(ids) <= mark:
        return text
    room = limit - mark
    while room > 0:
        head, tail = decode(list(ids[: room - room // 2])), decode(list(ids[len(ids) - room // 2 :]))
        short = head.rstrip("\ufffd") + LEFT_OUT.format(len(ids) - room) + tail.lstrip("\ufffd")
        over = len(encode(short)) - limit
        if over <= 0:
            return short
        room -= over  # pieces may be encoded in more tokens than they were cut from
    return LEFT_OUT.format(len(ids))
