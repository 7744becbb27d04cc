"""Messages to tokens for any Hugging Face chat template, append-only.

The one idea: what stands in a context is never rendered again.  The text that a message adds is the template's text of the
whole conversation minus the text that stands, and it alone is encoded; sampled ids are never encoded again.  The text that
stands is known without the tokens: the template's text up to the last answer, and that answer as it was said.  If the whole
text does not begin with it, the template rewrote the past (Qwen 3 removes thinking before the last question), and
`HistoryRewritten` tells the context to fork.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from sojourn.core import Action, HistoryRewritten, Message, Text, ToolSpec, assistant, tool, user
from sojourn.rendering.protocols import ActionProtocol
from sojourn.rendering.template import MARK, ChatTemplate, Turn, tools_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = ToolSpec(MARK, "a tool", {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]})


class ChatRenderer:
    """Renders conversations with the chat template of `tokenizer`; implements `sojourn.core.Renderer`.

    protocol: describes the tools in the system message, unless the template describes them itself and in the same form
    (`native_tools`).  end_of_turn: id of the token that ends the assistant's turn, None if the template has no such token.
    append_only: False if the template rewrites earlier messages, found by trying; contexts then fork where it does, and each
    fork costs a prefill of the whole conversation.

    A policy that has spoken and is asked again, with nothing observed in between, goes on with its turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, protocol: ActionProtocol) -> None:
        self.tokenizer = tokenizer
        self.protocol = protocol
        self.template = ChatTemplate(tokenizer)
        self._encoded = lru_cache(maxsize=4096)(lambda text: tuple(tokenizer.encode(text, add_special_tokens=False)))
        ends = self._encode(self.template.end_of_turn)
        self.end_of_turn: int | None = ends[0] if ends else None
        self.native_tools = bool(protocol.stop) and self.template.describes(PROBE, protocol.stop)
        self.append_only = self._appends_only()

    def open(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of a fresh conversation, without the prompt for an answer; none for no messages."""
        return self._encode(self._render(self._turns(messages, tools), tools))

    def extend(
        self, history: Sequence[Message], tools: Sequence[ToolSpec], new: Sequence[Message], last_token: int | None
    ) -> list[int]:
        """Tokens that `new` adds after `history`; none for no messages.

        last_token: the last id of the answer that ends `history`, None if `history` does not end with an answer of the policy.
        The tokens begin with the template's end of that answer, unless `last_token` is it already.  Raises `HistoryRewritten`.
        """
        if not new:
            return []
        standing = self._standing(history, tools, open_ended=last_token is not None)
        added = after(self._render(self._turns((*history, *new), tools), tools), standing)
        if added is None:
            raise HistoryRewritten(f"the chat template rewrites earlier messages once a {new[0].role} message follows them")
        if last_token is not None and last_token == self.end_of_turn:
            stripped = added.lstrip()
            added = stripped.removeprefix(self.template.end_of_turn) if stripped.startswith(self.template.end_of_turn) else added
        return self._encode(added)

    def answer_prompt(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens that open the assistant's turn; none after an assistant message, which the policy goes on with."""
        turns = self._turns(history, tools)
        if turns and turns[-1].role == "assistant":
            return []
        return self._encode(self._render(turns, tools, prompt=True).removeprefix(self._render(turns, tools)))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without the token that ends the turn; other special tokens are written out."""
        ends = (self.end_of_turn, self.tokenizer.eos_token_id)
        said = tokens[:-1] if len(tokens) and tokens[-1] in ends else tokens
        return str(self.tokenizer.decode(list(said), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def as_sampled(self, text: str) -> list[int]:
        """Tokens of `text` as a policy ought to sample them (demonstrations): with the end of the turn, unless a stop text of the
        protocol ends it."""
        ends = any(text.endswith(stop) for stop in self.protocol.stop)
        return self._encode(text if ends else text + self.template.end_of_turn)

    def _standing(self, history: Sequence[Message], tools: Sequence[ToolSpec], *, open_ended: bool) -> str:
        """The text that the context of `history` holds; open-ended: up to the last word of its last answer."""
        turns = self._turns(history, tools)
        if not open_ended:
            return self._render(turns, tools)
        return self._render(turns[:-1], tools, prompt=True) + turns[-1].text

    def _render(self, turns: tuple[Turn, ...], tools: Sequence[ToolSpec], *, prompt: bool = False) -> str:
        return self.template.render(turns, tools=tools_json(tools) if tools and self.native_tools else "", prompt=prompt)

    def _turns(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[Turn, ...]:
        turns = [self._turn(message) for message in messages]
        described = "" if self.native_tools else self.protocol.describe(tools)
        if turns and described:
            given = turns.pop(0).text + "\n\n" if turns[0].role == "system" else ""
            turns.insert(0, Turn("system", given + described))
        return self.template.fit(turns)

    def _turn(self, message: Message) -> Turn:
        """A message as a turn.  An assistant's text holds its calls: as it was sampled, else as the protocol writes them."""
        if not all(isinstance(part, Text) for part in message.parts):
            raise ValueError(
                f"a {message.role} message holds an image, but this renderer writes text only: describe the image in words"
            )
        text = self.protocol.format(Action(message.text, message.calls)) if message.calls else message.text
        return Turn(message.role, text, message.name if message.role == "tool" else None)

    def _encode(self, text: str) -> list[int]:
        return list(self._encoded(text))

    def _appends_only(self) -> bool:
        """Try whether an answer, plain or with thinking, stays as it is when the world replies."""
        ask = user("q")
        begun = self.template.render((Turn("user", "q"),), prompt=True).rstrip().endswith("<think>")
        for answer in ("t\n</think>\n\na",) if begun else ("a", "<think>\nt\n</think>\n\na"):
            for reply in (user("r"), tool("r", "t")):
                try:
                    self.extend((ask, assistant(answer)), (), (reply,), last_token=-1)
                except HistoryRewritten:
                    return False
        return True


def after(text: str, prefix: str) -> str | None:
    """What `text` adds to `prefix`; None if it does not begin with it.  Whitespace that only one of them has does not count:
    many templates trim contents.

    >>> after("hi </s>", "hi\\n"), after("ho </s>", "hi")
    (' </s>', None)
    """
    if text.startswith(prefix):
        return text[len(prefix) :]
    at = 0
    for char in prefix:
        if not text.startswith(char, at):
            if char.isspace():
                continue
            while at < len(text) and text[at].isspace():
                at += 1
            if not text.startswith(char, at):
                return None
        at += 1
    return text[at:]
