"""What a policy said is read where it acts: ends are no text, thinking is no action, a begun answer is gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import engine_for, small

from sojourn.core import Action, Context, Ints, Message, TrajectoryTree, assistant, user
from sojourn.engine import Completion, SamplingParams
from sojourn.policy import Policy
from sojourn.rendering import ActionProtocol, ChatRenderer, JsonTags, PlainText, ReAct, XmlTags

THINKS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""A template that opens the thinking, as that of DeepSeek R1 does."""


class StubSays:
    """An engine that says texts, one a call, and remembers what it was asked."""

    max_context = 1000

    def __init__(self, *texts: str, ends: Sequence[int] = ()) -> None:
        self.texts, self.ends = list(texts), ends
        self.asked: list[SamplingParams] = []

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        self.asked.append(params)
        ids = [*self.texts.pop(0).encode(), *self.ends]
        return Completion(np.array(ids, np.int64), np.zeros(len(ids), np.float32), "stop", ended=bool(self.ends))

    async def score(self, tokens: Ints, adapter: str | None = None) -> Any:
        raise NotImplementedError


def acted(
    text: str, *messages: Message, protocol: ActionProtocol, template: str = "", put: str = ""
) -> tuple[Context, Action, SamplingParams]:
    """What is read when the engine says `text`, after `messages` and what was put into the policy's mouth."""
    tokenizer = small().tokenizer
    if template:
        tokenizer.chat_template = template
    engine = StubSays(text)
    policy = Policy("actor", engine, ChatRenderer(tokenizer, protocol), protocol)
    context = TrajectoryTree().new_context(messages or [user("q")], renderer=policy.renderer)
    if put:
        context = context.prompted().force(policy.renderer.as_sampled(put)[:-1], assistant(put))
    child, action = asyncio.run(policy.act(context.prompted(), seed=0))
    return child, action, engine.asked[0]


def test_any_end_of_a_turn_ends_it_and_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own list, the tokenizer's and the template's: whichever ends the answer, the world hears the same."""
    heard = set()
    for end in ("<|endoftext|>", "<|im_end|>", "<|im_start|>"):
        loaded = small()
        tokenizer: Any = loaded.tokenizer
        ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>", "<|im_start|>"])
        loaded.model.generation_config.eos_token_id = [ids[0], ids[1]]
        tokenizer.eos_token = "<|im_start|>"
        engine, protocol = engine_for(loaded), PlainText()
        scripted = iter([*b"42", tokenizer.convert_tokens_to_ids(end), *b"and on"])
        monkeypatch.setattr(
            engine._batch,
            "_draw",
            lambda requests, _, e=engine._batch, s=scripted: [e._append(r, next(s), 0.0) for r in requests],
        )
        policy = Policy("actor", engine, ChatRenderer(tokenizer, protocol), protocol, SamplingParams(max_tokens=9))
        child, action = asyncio.run(
            policy.act(TrajectoryTree().new_context([user("q")], renderer=policy.renderer).prompted(), seed=0)
        )
        assert child.tree[child.span].tokens.tolist() == [*b"42", tokenizer.convert_tokens_to_ids(end)]
        assert child.messages[-1].text == action.text
        heard.add(action.answer)
    assert heard == {"42"}


def test_the_end_of_the_template_is_an_end_for_an_engine_that_has_another() -> None:
    """A base model: its tokenizer ends texts with <|endoftext|>, the template ends turns with <|im_end|>."""
    loaded = small()
    tokenizer: Any = loaded.tokenizer
    tokenizer.eos_token = "<|endoftext|>"
    renderer = ChatRenderer(tokenizer, PlainText())
    assert renderer.ends == set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))
    engine = StubSays("42")
    policy = Policy("actor", engine, renderer, PlainText())
    asyncio.run(policy.act(TrajectoryTree().new_context([user("q")], renderer=renderer).prompted(), seed=0))
    assert set(engine.asked[0].ends) == renderer.ends


@pytest.mark.parametrize(
    "protocol", [PlainText(), JsonTags(), XmlTags(("calc",)), ReAct(("calc",))], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("how", ["template", "message", "forced", "itself"])
def test_thinking_is_no_action_whoever_opened_it(protocol: ActionProtocol, how: str) -> None:
    said: Callable[[str], Any] = lambda text: acted(  # noqa: E731
        text if how != "itself" else "<think>" + text,
        *([user("q"), assistant("<think>")] if how == "message" else []),
        protocol=protocol,
        template=THINKS if how == "template" else "",
        put="<think>" if how == "forced" else "",
    )
    final = "Final: 5" if isinstance(protocol, ReAct) else "<answer>5</answer>" if isinstance(protocol, XmlTags) else "5"
    draft = 'so <tool_call>{"name": "calc"}</tool_call> <calc>4</calc> <answer>4</answer>\nAction: calc[4]\nObservation: 4\n'
    child, action, params = said(f"{draft}</think>\n{final}")
    assert (action.answer, action.calls, action.fault) == ("5", (), None)
    assert child.messages[-1].text == action.text == ("<think>" if how == "itself" else "") + f"{draft}</think>\n{final}"
    assert params.thinking == ("<think>", "</think>")
    assert params.in_thinking == (how != "itself")
    _, cut, _ = said(draft)
    assert cut.calls == () and cut.answer in (None, "")


def test_an_action_that_was_begun_is_read_with_its_beginning() -> None:
    protocol = XmlTags(("calc",))
    for where in ({"put": "Well. <calc>"}, {}):
        opening = [] if where else [user("q"), assistant("Well. <calc>")]
        child, action, _ = acted("1+1</calc>", *opening, protocol=protocol, **where)
        assert [call.arguments for call in action.calls] == [{"input": "1+1"}]
        assert action.text == "1+1</calc>"
        again = child.renderer.open([*child.messages, user("r")], ())
        assert again == child.observe(user("r")).tokens.tolist()


def test_what_was_acted_on_is_not_read_again() -> None:
    """A policy that goes on with its own turn acts with what it adds."""
    protocol = XmlTags(("calc",))
    engine = StubSays("<calc>1</calc>", " then <calc>2</calc>")
    policy = Policy("actor", engine, ChatRenderer(small().tokenizer, protocol), protocol)
    context = TrajectoryTree().new_context([user("q")], renderer=policy.renderer)
    first, _ = asyncio.run(policy.act(context.prompted(), seed=0))
    _, action = asyncio.run(policy.act(first.prompted(), seed=1))
    assert [call.arguments for call in action.calls] == [{"input": "2"}]
