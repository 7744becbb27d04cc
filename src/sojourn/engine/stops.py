"""Stop texts in a completion that grows token by token.

The one idea: read what is new once, from left to right, and keep only what a text could still begin in.  A part in which stop texts do
not count (thinking) is left at its closing mark, so whatever came first decides:

    <think> so <calc>1</calc>? </think> <calc>1</calc>
    ------- ------- no stop ----------- -------------^ stop
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sojourn.engine.protocol import SamplingParams

HALF = "\ufffd"
"""What a tokenizer writes for a part of a character."""
LONGEST = 8
"""Tokens that may wait for the rest of a character; what still makes none after so many never will."""


class StopTexts:
    """The stop texts of one request.  decode: ids to text, without edge effects."""

    def __init__(self, params: SamplingParams, decode: Callable[[Sequence[int]], str]) -> None:
        marks = params.thinking or ()
        self._stop, self._opens, self._closes = params.stop, marks[:1], marks[1:]
        self._thinking = params.in_thinking
        self._kept = max(map(len, (*params.stop, *marks)), default=1) - 1
        self._decode = decode
        self._text = ""
        self._waiting: list[int] = []
        self._read = 0

    def completed_by(self, token: int) -> bool:
        """Whether `token`, the next of the completion, completes a stop text."""
        if not self._stop:
            return False
        self._text += self._new(token)
        while True:
            wanted = self._closes if self._thinking else (*self._stop, *self._opens)
            found = [(at, text) for text in wanted if (at := self._text.find(text)) >= 0]
            if not found:
                self._text = self._text[-self._kept :] if self._kept else ""
                return False
            at, text = min(found)
            if text in self._stop and not self._thinking:
                return True
            self._thinking = not self._thinking
            self._text = self._text[at + len(text) :]

    def _new(self, token: int) -> str:
        """The text that `token` settles: a character in several tokens comes with its last one."""
        self._waiting.append(token)
        text = self._decode(self._waiting)
        settled = text if len(self._waiting) >= LONGEST else text.rstrip(HALF)
        new, self._read = settled[self._read :], len(settled)
        if settled == text:
            self._waiting, self._read = [], 0
        return new
