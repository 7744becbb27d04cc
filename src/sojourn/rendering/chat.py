"""Messages to tokens for any Hugging Face chat template, append-only.

The one idea: what stands in a context is never rendered again.  The text that a message adds is the template's text of the
whole conversation minus the text that stands, and it alone is encoded; sampled ids are never encoded again.  The text that
stands is known without the tokens: the template's text up to the last answer, and that answer as it was said.  If the whole
text does not begin with it, the template rewrote the past (Qwen 3 removes thinking before the last question), and
`HistoryRewritten` tells the context to fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sojourn.core import Action, HistoryRewritten, Message, Text, ToolSpec, assistant, tool, user
from sojourn.core.text import well_formed
from sojourn.rendering.protocols import ActionProtocol
from sojourn.rendering.shorten import shortened
from sojourn.rendering.template import CUT, MARK, ChatTemplate, Turn, cut, cutter, tools_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = ToolSpec(MARK, "a tool", {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]})


class ChatRenderer:
    """Renders conversations with the chat template of `tokenizer`; implements `sojourn.core.Renderer`.

    arguments: of the chat template (`enable_thinking`).
    protocol: describes the tools in the system message, unless the template describes them itself and in the same form
    (`native_tools`).  end_of_turn: id of the token that ends the assistant's turn, None if the template has no such token.
    ends: ids that end a turn, the template's and the tokenizer's.
    append_only: False if the template rewrites earlier messages, found by trying; contexts then fork where it does, and each
    fork costs a prefill of the whole conversation.

    An assistant's message that nothing follows is left open: a policy that is asked then goes on with it, whoever wrote it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        protocol: ActionProtocol,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.tokenizer = tokenizer
        self.protocol = protocol
        self.template = ChatTemplate(tokenizer, arguments)
        self._encoded = lru_cache(maxsize=4096)(lambda text: tuple(tokenizer.encode(text, add_special_tokens=False)))
        controls = self.template.controls
        own = {*protocol.stop, *(protocol.thinking or ())}  # tokens that the policy itself writes stay whole in its messages
        self._foreign = cutter(controls)
        self._own = cutter(token for token in controls if not own & {token, token.replace("<", "</", 1)})
        ends = self._encode(self.template.end_of_turn)
        self.end_of_turn: int | None = ends[0] if ends else None
        self.ends = frozenset(i for i in (self.end_of_turn, tokenizer.eos_token_id) if i is not None)
        self.native_tools = bool(protocol.stop) and self.template.describes(PROBE, protocol.stop)
        self.append_only = self._appends_only()

    def open(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of a fresh conversation, without the prompt for an answer; none for no messages."""
        return self._encode(self._written(self._turns(messages, tools), tools))

    def extend(
        self, history: Sequence[Message], tools: Sequence[ToolSpec], new: Sequence[Message], last_token: int | None
    ) -> list[int]:
        """Tokens that `new` adds after `history`; none for no messages.

        last_token: the last id of the answer that ends `history`, None if `history` does not end with an answer of the policy.
        The tokens begin with the template's end of that answer, unless `last_token` is it already.  Raises `HistoryRewritten`.
        """
        if not new:
            return []
        added = after(
            self._written(self._turns((*history, *new), tools), tools), self._written(self._turns(history, tools), tools)
        )
        if added is None:
            raise HistoryRewritten(f"the chat template rewrites earlier messages once a {new[0].role} message follows them")
        if last_token is not None and last_token == self.end_of_turn:
            stripped = added.lstrip()
            added = stripped.removeprefix(self.template.end_of_turn) if stripped.startswith(self.template.end_of_turn) else added
        return self._encode(added)

    def answer_prompt(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens that open the assistant's turn; none after an assistant message, which the policy goes on with."""
        turns = self._turns(history, tools)
        return [] if turns and turns[-1].role == "assistant" else self._encode(self._prompt(turns, tools))

    def begun(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """What already stands of the assistant's turn when the policy is asked: the thinking that the template opens, and the messages
        that it goes on with."""
        turns = self._turns(history, tools)
        said = turns[-1].text if turns and turns[-1].role == "assistant" else ""
        prompt = self._prompt(turns[:-1] if said else turns, tools)
        marks = self.protocol.thinking
        opened = marks[0] if marks and prompt.rfind(marks[0]) > prompt.rfind(marks[1]) else ""
        return (opened + said).replace(CUT, "")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without the token that ends the turn; other special tokens are written out."""
        said = tokens[:-1] if len(tokens) and tokens[-1] in self.ends else tokens
        return self._text(said)

    def as_sampled(self, text: str) -> list[int]:
        """Tokens of `text` as a policy ought to sample them (demonstrations): with the end of the turn, unless a stop text of the
        protocol ends it."""
        ends = any(text.endswith(stop) for stop in self.protocol.stop)
        return self._encode(cut(well_formed(text), self._own) + ("" if ends else self.template.end_of_turn))

    def as_said(self, text: str) -> list[int]:
        """Tokens of `text` in the middle of the assistant's turn."""
        return [i for piece in cut(well_formed(text), self._own).split(CUT) for i in self._encoded_after(piece)]

    def shorten(self, messages: Sequence[Message], limit: int) -> tuple[Message, ...]:
        """The messages with the middle of long texts left out, so that their texts take `limit` tokens at most."""
        return shortened(messages, limit, self._plain, self._text)

    def _written(self, turns: tuple[Turn, ...], tools: Sequence[ToolSpec]) -> str:
        """The text that a context of these turns holds: an answer at the end is open."""
        if turns and turns[-1].role == "assistant":
            return self._render(turns[:-1], tools, prompt=True) + turns[-1].text
        return self._render(turns, tools)

    def _prompt(self, turns: tuple[Turn, ...], tools: Sequence[ToolSpec]) -> str:
        """What the template writes to let the assistant answer."""
        return self._render(turns, tools, prompt=True).removeprefix(self._render(turns, tools))

    def _render(self, turns: tuple[Turn, ...], tools: Sequence[ToolSpec], *, prompt: bool = False) -> str:
        described = cut(tools_json(tools), self._foreign) if tools and self.native_tools else ""
        return self.template.render(turns, tools=described, prompt=prompt)

    def _turns(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[Turn, ...]:
        """The messages as the template is given them: in roles that it knows, and with cuts in all control tokens."""
        turns = [turn for role, group in groupby(messages, lambda m: m.role == "assistant") for turn in self._spoken(role, group)]
        described = "" if self.native_tools else self.protocol.describe(tools)
        if turns and described:
            given = turns.pop(0).text + "\n\n" if turns[0].role == "system" else ""
            turns.insert(0, Turn("system", given + described))
        return tuple(self._cut(turn) for turn in self.template.fit(turns))

    def _cut(self, turn: Turn) -> Turn:
        found = self._own if turn.role == "assistant" else self._foreign
        return Turn(turn.role, cut(turn.text, found), turn.name and cut(turn.name, self._foreign))

    def _spoken(self, by_policy: bool, group: Iterable[Message]) -> list[Turn]:
        """Messages as turns.  An assistant's text holds its calls: as they were sampled, maybe in several pieces, else as the protocol
        writes them."""
        messages = list(group)
        for message in messages:
            if not all(isinstance(part, Text) for part in message.parts):
                raise ValueError(
                    f"a {message.role} message holds an image, but this renderer writes text only: describe the image in words"
                )
        if not by_policy:
            return [Turn(m.role, m.text, m.name if m.role == "tool" else None) for m in messages]
        whole = Action("".join(m.text for m in messages), tuple(call for m in messages for call in m.calls))
        if len(messages) > 1 and whole.calls and self.protocol.parse(whole.text).calls == whole.calls:
            return [Turn("assistant", whole.text)]
        return [Turn("assistant", self.protocol.format(Action(m.text, m.calls)) if m.calls else m.text) for m in messages]

    def _encode(self, text: str) -> list[int]:
        first, *others = text.split(CUT)
        return [*self._encoded(first), *(i for piece in others for i in self._encoded_after(piece))]

    def _encoded_after(self, piece: str) -> tuple[int, ...]:
        """Tokens of a text that stands behind another: SentencePiece would put a space before it."""
        anchor, ids = self._encoded("a"), self._encoded("a" + piece)
        return ids[len(anchor) :] if ids[: len(anchor)] == anchor else self._encoded(piece)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _plain(self, text: str) -> list[int]:
        """Tokens of what a message says."""
        return self._encode(cut(text, self._foreign))

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
