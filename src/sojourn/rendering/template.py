"""A chat template and what it can do.

The one idea: a template is a black box, so its abilities are found by trying it on small conversations, never by its model's
name.  What it cannot write is put into words that it can: a tool's result becomes a user message where it has no such role, a
system message goes to the front of the first user message, messages of one role in a row are joined where it wants them to
alternate.

What is said in a message is text, whatever it holds: a special token in it must not become that token's id.  So every control token
is cut in a content before the template sees it, with a mark after its first letter, and what lies between marks is encoded by itself.

    "x<|im_end|>y"  ->  <|im_start|>user\nx<CUT|im_end|>y<|im_end|>  ->  encode("<|im_start|>user\nx<") + encode("|im_end|>y<|im_end|>")

A content without such tokens is encoded together with what surrounds it, as the tokenizer always does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sojourn.core import ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "sojournprobe"
CUT = "\U0010fffe\U0010ffff"
"""Where a text is cut before it is encoded.  Nobody writes these two; a content that does is cut there, and no harm is done."""
ESCAPED_CUT = json.dumps(CUT)[1:-1]
"""What a template makes of it that writes contents as JSON in ASCII."""
TODAY = "{% macro strftime_now(format) %}01 Jan 2026{% endmacro %}"
"""Put before templates that print today's date: a rendering is a function of its messages, also after midnight."""


GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "namespace", "range"}
"""What a template reads that is no argument of the user's."""


class Turn(NamedTuple):
    """A message as a template sees it."""

    role: str
    text: str
    name: str | None = None


class ChatTemplate:
    """The chat template of a tokenizer.  Raises `ValueError` if it has none, or one that answers are not appended to.

    arguments: what the template reads beside messages and tools (`enable_thinking`).  Raises `ValueError` for one that it does not read.
    has_system, has_tool, repeats_user: whether it writes system messages, tool messages, and user messages in a row.
    end_of_turn: the text that ends an assistant's message, a single token; "" if it has none.
    controls: the tokens that only the template may write: the special ones, and what else it writes that is a token of its own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                f"the tokenizer '{tokenizer.name_or_path}' has no chat template, so messages cannot become tokens: use the "
                "instruct variant of the model, or set tokenizer.chat_template"
            )
        self._tokenizer, self._arguments = tokenizer, dict(arguments)
        self._refuse_unread()
        self._cached = lru_cache(maxsize=4096)(self._apply)
        self._closing = self._header = ""
        ask, answer = Turn("user", "q"), Turn("assistant", MARK)
        self._closing = self._find_closing(ask)
        self._header = self._find_header(ask, answer)
        self.has_system = MARK in self._try(Turn("system", MARK), ask)
        self.repeats_user = MARK in self._try(ask, Turn("user", MARK))
        self.has_tool = self._knows_role("tool", ask, answer)
        self.end_of_turn = self._find_end_of_turn(self.render((ask, answer)).rpartition(MARK)[2])
        self.controls = self._find_controls(ask, answer)

    def render(self, turns: tuple[Turn, ...], *, tools: str = "", prompt: bool = False) -> str:
        """The conversation as the template writes it; with `prompt`, up to where the assistant answers.

        tools: JSON of the tools that the template itself shall describe.
        """
        if not turns and prompt:
            raise ValueError(
                "a conversation begins with the assistant, for which no chat template has a turn: begin with a user message"
            )
        if not turns:
            return ""
        text = self._cached(turns, tools, prompt)
        return text + self._header if prompt else text.removesuffix(self._closing)

    def fit(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns in roles and an order that the template can write.  Assistant messages in a row are one answer."""
        fitted: list[Turn] = []
        for turn in turns:
            foreign = (turn.role == "tool" and not self.has_tool) or (turn.role == "system" and not self.has_system)
            turn = Turn("user", turn.text) if foreign else turn
            last = fitted[-1] if fitted else Turn("", "")
            if turn.role == last.role == "assistant":
                fitted[-1] = Turn("assistant", last.text + turn.text)
            elif turn.role == last.role == "user" and not self.repeats_user:
                fitted[-1] = Turn("user", f"{last.text}\n\n{turn.text}")
            else:
                fitted.append(turn)
        return tuple(fitted)

    def describes(self, probe: ToolSpec, call: Sequence[str]) -> bool:
        """Whether the template itself describes tools, and with a form of call that holds all texts of `call`."""
        shown = self._try(Turn("user", "q"), tools=tools_json([probe]))
        return all(text in shown for text in (probe.name, *call))

    def _apply(self, turns: tuple[Turn, ...], tools: str, prompt: bool) -> str:
        messages = [{"role": t.role, "content": t.text} | ({"name": t.name} if t.name else {}) for t in turns]
        specs: list[Any] | None = json.loads(tools) if tools else None
        source = self._tokenizer.get_chat_template(None, specs)
        if "strftime_now" in source:
            source = TODAY + source
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=specs, chat_template=source, add_generation_prompt=prompt, tokenize=False, **self._arguments
            )
        except Exception as error:  # a template is foreign code: it may raise anything
            roles = ", ".join(turn.role for turn in turns)
            name = self._tokenizer.name_or_path
            raise ValueError(f"the chat template of '{name}' refused a conversation ({roles}): {error}") from error
        assert isinstance(text, str)
        return text.replace(ESCAPED_CUT, CUT)

    def _refuse_unread(self) -> None:
        """Raise for an argument that the template does not read: a misspelt one would change nothing, in silence."""
        if not self._arguments:
            return
        source = self._tokenizer.get_chat_template(None, None)
        import jinja2.meta  # late: workers of worlds elsewhere import this room, and have numpy alone

        read = jinja2.meta.find_undeclared_variables(jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
        for name in self._arguments.keys() - (read - GIVEN):
            near = get_close_matches(name, read - GIVEN, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f": it reads {', '.join(sorted(read - GIVEN)) or 'none'}"
            raise ValueError(f"the chat template of '{self._tokenizer.name_or_path}' reads no argument '{name}'{hint}")

    def _try(self, *turns: Turn, tools: str = "") -> str:
        try:
            return self.render(turns, tools=tools)
        except ValueError:
            return ""

    def _knows_role(self, role: str, *before: Turn) -> bool:
        """Whether the template treats `role` otherwise than a role that does not exist."""
        known, unknown = self._try(*before, Turn(role, MARK)), self._try(*before, Turn("norole", MARK))
        return known.count(MARK) == 2 and unknown.replace("norole", role) != known

    def _find_closing(self, ask: Turn) -> str:
        """What the template writes after the last message only, if it is not asked to prompt: Phi-3 writes `eos_token`."""
        text, prompted = self.render((ask,)), self.render((ask,), prompt=True)
        for closing in ("", str(self._tokenizer.eos_token or "")):
            if prompted.startswith(text.removesuffix(closing)):
                return closing
        raise ValueError(
            f"the chat template of '{self._tokenizer.name_or_path}' does not append its generation prompt: {prompted!r} does not "
            f"begin with {text!r}"
        )

    def _find_header(self, ask: Turn, answer: Turn) -> str:
        """What opens the assistant's turn, where the template ignores `add_generation_prompt`."""
        text = self.render((ask,))
        if self.render((ask,), prompt=True) != text:
            return ""
        header = self.render((ask, answer)).removeprefix(text).partition(MARK)[0]
        return header if header.strip() else ""

    def _find_controls(self, ask: Turn, answer: Turn) -> tuple[str, ...]:
        """Spaces do not count: Gemma has tokens of their own for them."""
        talks = ((Turn("system", "s"), ask, answer, ask), (ask, answer, Turn("tool", "t"), answer, ask), (ask, answer, ask))
        probe = tools_json([ToolSpec("t", "t")])
        written = "".join(self._try(*talk, tools=tools) for talk in talks for tools in ("", probe)) + self.render(
            (ask,), prompt=True
        )
        added = self._tokenizer.added_tokens_decoder.values()
        return tuple(t.content for t in added if len(t.content) > 1 and t.content.strip() and (t.special or t.content in written))

    def _find_end_of_turn(self, tail: str) -> str:
        ids = self._tokenizer.encode(tail.lstrip(), add_special_tokens=False)
        if not ids or ids[0] not in self._tokenizer.added_tokens_decoder:
            return ""
        return str(self._tokenizer.convert_ids_to_tokens(ids[0]))


def tools_json(tools: Sequence[ToolSpec]) -> str:
    """The tools in the form that chat templates expect, as JSON."""
    functions = ({"name": t.name, "description": t.description, "parameters": dict(t.parameters)} for t in tools)
    return json.dumps([{"type": "function", "function": function} for function in functions])


def cutter(tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds the first letter of each of `tokens` in a text, also where they overlap."""
    return re.compile(f"(?=(?:{'|'.join(map(re.escape, tokens)) or '(?!)'}))(.)", re.DOTALL)


@lru_cache(maxsize=4096)
def cut(text: str, found: re.Pattern[str]) -> str:
    """`text` with a cut inside everything that `found` finds.

    >>> cut("a<s>b", cutter(["<s>"])) == f"a<{CUT}s>b"
    True
    """
    return found.sub(rf"\1{CUT}", text)
