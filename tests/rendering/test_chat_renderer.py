"""What stands in a context stays; what is added is what the chat template says, whatever the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from sojourn.core import (
    Context,
    HistoryRewritten,
    Image,
    Kind,
    Message,
    Span,
    ToolCall,
    ToolSpec,
    TrajectoryTree,
    assistant,
    system,
    tool,
    user,
)
from sojourn.rendering import ChatRenderer, JsonTags, PlainText, XmlTags

MakeTokenizer = Callable[[str], PreTrainedTokenizerBase]
ALL = ["chatml", "qwen", "llama3", "gemma", "thinking", "phi", "mistral", "plain"]
SYSTEM, TOOL = {"chatml", "qwen", "llama3", "phi", "thinking", "plain"}, {"qwen", "llama3", "thinking"}
CALC = ToolSpec("calc", "arithmetic", {"type": "object", "properties": {"expression": {"type": "string"}}})

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=12)
words = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="<"), min_size=1, max_size=8)
thinking = st.builds("<think>\n{}\n</think>\n\n{}".format, words, words)


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encodes character by character: ids that a policy may sample and that no encoder would choose."""
    return [i for char in text for i in tokenizer.encode(char, add_special_tokens=False)]


def say(context: Context, ids: Sequence[int]) -> Context:
    """The context after a policy sampled `ids`."""
    prompt = context.prompted()
    span = Span(prompt.span, np.array(ids, np.int64), Kind.ACTION, turn=prompt.turn)
    return prompt.acted(span, assistant(context.renderer.decode(ids)))


def start(renderer: ChatRenderer, *messages: Message, tools: Sequence[ToolSpec] = ()) -> Context:
    return TrajectoryTree().new_context(messages, renderer=renderer, tools=tools)


def text_of(context: Context) -> str:
    renderer = context.renderer
    assert isinstance(renderer, ChatRenderer)
    return str(renderer.tokenizer.decode(context.tokens.tolist()))


def full(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, prompt: bool = False) -> str:
    """What the template itself makes of the conversation; no code of ours but the message's fields."""
    chat = [{"role": message.role, "content": message.text} for message in messages]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt))


@st.composite
def conversations(draw: st.DrawFn, template: str, answers: st.SearchStrategy[str] = words) -> list[Message]:
    """A conversation that the template can write, ending with an answer; several messages of the world between answers."""
    messages = [system(draw(texts))] if template in SYSTEM and draw(st.booleans()) else []
    alternates = template in ("gemma", "mistral")
    for turn in range(draw(st.integers(1, 4))):
        for _ in range(1 if alternates else draw(st.integers(1, 2))):
            by_tool = turn > 0 and template in TOOL and draw(st.booleans())
            messages.append(tool(draw(texts), "calc") if by_tool else user(draw(texts)))
        messages.append(assistant(draw(answers)))
    return messages


def play(renderer: ChatRenderer, messages: Sequence[Message], ends: Sequence[bool]) -> list[Context]:
    """The contexts after each turn: what is said is sampled, with or without the end of turn; the rest is observed."""
    turns: list[list[Message]] = [[]]
    for message in messages:
        turns[-1].append(message)
        if message.role == "assistant":
            turns.append([])
    end = [renderer.end_of_turn] if renderer.end_of_turn is not None else []
    contexts: list[Context] = []
    for k, (*world, answer) in enumerate(turns[:-1]):
        context = contexts[-1].observe(*world) if contexts else start(renderer, *world)
        ids = pieces(renderer.tokenizer, answer.text) + (end if ends[k] else [])
        contexts.append(say(context, ids))
    return contexts


@pytest.mark.parametrize("template", ALL)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_spans_together_are_the_template_s_rendering(make_tokenizer: MakeTokenizer, template: str, data: st.DataObject) -> None:
    tokenizer = make_tokenizer(template)
    messages = data.draw(conversations(template))
    ends = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
    *_, last = play(ChatRenderer(tokenizer, PlainText()), messages, ends)
    asked = last.observe(user("More?")).prompted()
    expected = full(tokenizer, [*messages, user("More?")], prompt=True)
    if template in ("plain", "mistral"):  # the renderer opens a turn where the template does not
        expected = expected.replace("] ", "]") + ("assistant: " if template == "plain" else "")
        assert text_of(asked).replace("] ", "]") == expected
    else:
        assert text_of(asked) == expected


@pytest.mark.parametrize("template", ALL)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_stands_is_a_prefix_of_what_follows(make_tokenizer: MakeTokenizer, template: str, data: st.DataObject) -> None:
    renderer = ChatRenderer(make_tokenizer(template), PlainText())
    messages = data.draw(conversations(template, answers=texts | thinking))
    for before, after in pairwise(play(renderer, messages, [True, False] * 2)):
        rewritten = after.tree[after.tree.path(after.span)[0]].source is not None
        assert rewritten or np.array_equal(after.tokens[: len(before.tokens)], before.tokens)
        assert not (rewritten and template != "thinking")


@pytest.mark.parametrize("template", ALL)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_sampled_ids_are_kept_as_sampled(make_tokenizer: MakeTokenizer, template: str, data: st.DataObject) -> None:
    tokenizer = make_tokenizer(template)
    ids = data.draw(st.lists(st.integers(12, len(tokenizer) - 1), min_size=1, max_size=8))
    first = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), ids)
    second = first.observe(user("r")).prompted()
    assert first.tokens[-len(ids) :].tolist() == ids
    assert np.array_equal(second.tokens[: len(first.tokens)], first.tokens)


@pytest.mark.parametrize(
    ("template", "tail"),
    [("llama3", "<|eot|><|header|>"), ("gemma", "<end_of_turn>\n<start_of_turn>"), ("mistral", "<eos>[INST] ")],
)
def test_trimmed_answers_do_not_fork_the_context(make_tokenizer: MakeTokenizer, template: str, tail: str) -> None:
    tokenizer = make_tokenizer(template)
    said = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, " four \n"))
    assert text_of(said.observe(user("r"))).startswith(text_of(said) + tail)


def test_thinking_that_the_template_removes_forks_the_context(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("thinking")
    renderer = ChatRenderer(tokenizer, PlainText())
    said = say(start(renderer, user("q")), pieces(tokenizer, "<think>\nhm\n</think>\n\nfour"))
    forked = said.observe(user("r"))
    assert text_of(forked) == full(tokenizer, [user("q"), assistant("four"), user("r")])
    assert forked.tree[forked.span].source == said.span
    assert forked.turn == 1
    assert text_of(said).endswith("<think>\nhm\n</think>\n\nfour")


def test_thinking_is_kept_while_tools_answer(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("thinking")
    said = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, "<think>\nhm\n</think>\n\ncall"))
    after = said.observe(tool("4", "calc"))
    assert after.tree.path(after.span)[: len(said.tree.path(said.span))] == said.tree.path(said.span)


def test_a_message_put_after_joined_tool_results_forks(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("qwen")
    said = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, "two calls"))
    one = said.observe(tool("1"))
    with pytest.raises(HistoryRewritten):
        one.renderer.extend(one.messages, (), (tool("2"),), None)
    assert text_of(one.observe(tool("2"))) == text_of(said.observe(tool("1"), tool("2")))


@pytest.mark.parametrize("template", ALL)
def test_rewriting_templates_are_found_at_start_up(make_tokenizer: MakeTokenizer, template: str) -> None:
    assert ChatRenderer(make_tokenizer(template), PlainText()).append_only == (template != "thinking")


@pytest.mark.parametrize(
    ("keeps", "written"), [(True, "'<think>\\n' + m.content"), (False, "m.content.split('</think>')[-1].lstrip()")]
)
def test_a_template_may_open_the_thinking_itself(make_tokenizer: MakeTokenizer, keeps: bool, written: str) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        f"{{{{ {written} if '</think>' in m.content else m.content }}}}<|im_end|>\n{{% endfor %}}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    assert ChatRenderer(make_tokenizer(source), PlainText()).append_only == keeps


def test_a_space_before_answers_is_no_prompt(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("mistral"), PlainText())
    assert renderer.answer_prompt([user("q")], ()) == []


@pytest.mark.parametrize(
    ("template", "token"),
    [("chatml", "<|im_end|>"), ("llama3", "<|eot|>"), ("gemma", "<end_of_turn>"), ("phi", "<|end|>"), ("mistral", "<eos>")],
)
def test_the_end_of_turn_is_written_once_and_not_decoded(make_tokenizer: MakeTokenizer, template: str, token: str) -> None:
    tokenizer = make_tokenizer(template)
    renderer = ChatRenderer(tokenizer, PlainText())
    end = tokenizer.convert_tokens_to_ids(token)
    assert renderer.end_of_turn == end
    assert renderer.decode([*pieces(tokenizer, "four"), end]) == "four"
    opened, closed = (say(start(renderer, user("q")), [*pieces(tokenizer, "four"), *tail]) for tail in ([], [end]))
    assert opened.observe(user("r")).tokens.tolist() == closed.observe(user("r")).tokens.tolist()


def test_the_default_system_prompt_is_written_once(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("chatml")
    context = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, "a")).observe(user("r"))
    assert text_of(context).startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nq<|im_end|>")
    assert text_of(context).count("Be kind.") == 1


def test_a_tool_result_is_a_user_message_where_the_template_has_no_tools(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("chatml")
    context = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, "c")).observe(tool("4", "calc"))
    assert text_of(context).endswith("<|im_start|>assistant\nc<|im_end|>\n<|im_start|>user\n4<|im_end|>\n")


def test_tools_are_described_in_the_system_message(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), XmlTags(tools=(CALC,)))
    description = "Tool: <calc>expression</calc> arithmetic\nAnswer: <answer>...</answer>"
    with_system = text_of(start(renderer, system("Calculate."), user("q"), tools=[CALC]))
    assert with_system == f"<|im_start|>system\nCalculate.\n\n{description}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
    without = text_of(start(renderer, user("q"), tools=[CALC]))
    assert without == f"<|im_start|>system\n{description}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"


def test_system_and_tools_go_to_the_user_where_the_template_refuses_them(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("gemma")
    renderer = ChatRenderer(tokenizer, XmlTags(tools=(CALC,)))
    context = start(renderer, system("Calculate."), user("q"), tools=[CALC])
    context = say(context, pieces(tokenizer, "<calc>1+1</calc>")).observe(tool("2"), user("Go on."))
    assert text_of(context) == (
        "<bos><start_of_turn>user\nCalculate.\n\nTool: <calc>expression</calc> arithmetic\nAnswer: <answer>...</answer>\n\nq"
        "<end_of_turn>\n<start_of_turn>model\n<calc>1+1</calc><end_of_turn>\n<start_of_turn>user\n2\n\nGo on.<end_of_turn>\n"
    )


def test_a_template_describes_the_tools_only_for_its_own_protocol(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("qwen")
    native, foreign = ChatRenderer(tokenizer, JsonTags()), ChatRenderer(tokenizer, XmlTags(tools=(CALC,)))
    assert native.native_tools and not foreign.native_tools
    schema: list[Any] = [
        {"type": "function", "function": {"name": "calc", "description": "arithmetic", "parameters": CALC.parameters}}
    ]
    chat = [{"role": "user", "content": "q"}]
    expected = tokenizer.apply_chat_template(chat, tools=schema, tokenize=False)
    assert text_of(start(native, user("q"), tools=[CALC])) == expected
    assert "# Tools" not in text_of(start(foreign, user("q"), tools=[CALC]))


def test_calls_of_an_example_are_written_in_the_protocol(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), XmlTags(tools=(CALC,)))
    call = ToolCall("calc", {"expression": "1 + 1"})
    alone = text_of(start(renderer, user("q"), assistant("Well.", [call]), user("r")))
    said = text_of(start(renderer, user("q"), assistant("Well.\n<calc>1 + 1</calc>", [call]), user("r")))
    pieces = text_of(start(renderer, user("q"), assistant("Well.\n<calc>"), assistant("1 + 1</calc>", [call]), user("r")))
    assert alone == said == pieces
    assert said.endswith("<|im_start|>assistant\nWell.\n<calc>1 + 1</calc><|im_end|>\n<|im_start|>user\nr<|im_end|>\n")


def test_a_forced_beginning_is_continued_in_the_same_turn(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("chatml")
    prompt = start(ChatRenderer(tokenizer, PlainText()), user("q")).prompted()
    forced = prompt.force(pieces(tokenizer, "Let me "), assistant("Let me "))
    context = say(forced, pieces(tokenizer, "think.")).observe(user("r"))
    assert text_of(context) == full(tokenizer, [user("q"), assistant("Let me think."), user("r")])
    assert text_of(context.rewrite(context.messages)) == text_of(context)


def test_episodes_of_a_group_share_their_prompt_also_after_a_fork(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("thinking")
    tree = TrajectoryTree()
    renderer = ChatRenderer(tokenizer, PlainText())
    first, second = (tree.new_context([user("q")], renderer=renderer) for _ in range(2))
    assert first.prompted().span == second.prompted().span
    said = say(first, pieces(tokenizer, "<think>\nhm\n</think>\n\nfour"))
    assert said.observe(user("r")).span == said.observe(user("r")).span


def test_nothing_observed_adds_nothing(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("chatml")
    said = say(start(ChatRenderer(tokenizer, PlainText()), user("q")), pieces(tokenizer, "a"))
    assert said.observe().span == said.span


def test_a_context_may_begin_empty(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), PlainText())
    assert start(renderer).observe(user("q")).tokens.tolist() == start(renderer, user("q")).tokens.tolist()


def test_demonstrations_end_as_samples_do(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("chatml")
    renderer = ChatRenderer(tokenizer, XmlTags(tools=(CALC,)))
    assert tokenizer.decode(renderer.as_sampled("<calc>1</calc>")) == "<calc>1</calc>"
    assert tokenizer.decode(renderer.as_sampled("Hello.")) == "Hello.<|im_end|>"


def test_a_rendering_does_not_depend_on_the_day(make_tokenizer: MakeTokenizer) -> None:
    dated = "{{ strftime_now('%f') }}|{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
    assert len({text_of(start(ChatRenderer(make_tokenizer(dated), PlainText()), user("q"))) for _ in range(3)}) == 1


def test_a_tokenizer_without_a_template_is_refused(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = copy(make_tokenizer("plain"))
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"no chat template.*set tokenizer.chat_template"):
        ChatRenderer(tokenizer, PlainText())


def test_a_refused_conversation_says_which_template_and_why(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("gemma"), PlainText())
    with pytest.raises(ValueError, match=r"refused a conversation \(assistant, user\): Roles must alternate"):
        start(renderer, assistant("a"), user("q"))


def test_images_are_refused(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), PlainText())
    with pytest.raises(ValueError, match="user message holds an image"):
        start(renderer, user([Image(b"")]))


@pytest.mark.parametrize("template", ALL)
@settings(max_examples=10, deadline=None)
@given(text=words)
def test_an_answer_that_is_begun_is_gone_on_with(make_tokenizer: MakeTokenizer, template: str, text: str) -> None:
    """At the end of the opening as after anything else: what follows the prompt for an answer, and no end."""
    renderer = ChatRenderer(make_tokenizer(template), PlainText())
    asked = start(renderer, user("q")).prompted()
    opened = start(renderer, user("q"), assistant(text))
    observed = start(renderer, user("q")).observe(assistant(text))
    assert text_of(opened) == text_of(asked) + text
    assert opened.prompted().span == opened.span
    assert text_of(observed) == text_of(opened)
    ids = pieces(renderer.tokenizer, " and more")
    whole = start(renderer, user("q"), assistant(text + " and more"), user("r"))
    assert text_of(say(opened, ids).observe(user("r"))).replace("] ", "]") == text_of(whole).replace("] ", "]")
    assert text_of(opened.observe(user("r"))) == text_of(say(opened, []).observe(user("r")))


def test_an_answer_without_a_question_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """It would stand without the header of its turn."""
    with pytest.raises(ValueError, match="begin with a user message"):
        ChatRenderer(make_tokenizer("chatml"), PlainText()).open([assistant("The answer is")], ())


@pytest.mark.parametrize(("prompt", "begun"), [("<think>\n", "<think>"), ("<think>\n\n</think>\n\n", ""), ("", "")])
def test_what_the_template_begins_is_known(make_tokenizer: MakeTokenizer, prompt: str, begun: str) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant\n{prompt}{{% endif %}}"
    )
    renderer = ChatRenderer(make_tokenizer(source), PlainText())
    assert renderer.begun([user("What is <think>?")], ()) == begun
    assert renderer.begun([user("q"), assistant("a<eos>b")], ()) == begun + "a<eos>b"


def test_every_end_of_a_turn_is_left_out_of_the_text(make_tokenizer: MakeTokenizer) -> None:
    """The template ends turns with <|im_end|>, the tokenizer with <eos>."""
    tokenizer = make_tokenizer("chatml")
    renderer = ChatRenderer(tokenizer, PlainText())
    ends = set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<eos>"]))
    assert renderer.ends == ends
    assert {renderer.decode([*pieces(tokenizer, "four"), end]) for end in ends} == {"four"}


THINKS_OR_NOT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def test_template_arguments_reach_the_template(make_tokenizer: MakeTokenizer) -> None:
    """As Qwen 3's template reads `enable_thinking`."""
    tokenizer = make_tokenizer(THINKS_OR_NOT)
    asked = (user("q"),)
    plain, quick = (ChatRenderer(tokenizer, PlainText(), given) for given in ({}, {"enable_thinking": False}))
    added = quick.answer_prompt(asked, ())[len(plain.answer_prompt(asked, ())) :]
    assert tokenizer.decode(added) == "<think>\n\n</think>\n\n"
    assert quick.open(asked, ()) == plain.open(asked, ())


def test_a_template_argument_that_nothing_reads_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(ValueError, match=r"reads no argument 'enable_thinkin'; did you mean 'enable_thinking'\?"):
        ChatRenderer(make_tokenizer(THINKS_OR_NOT), PlainText(), {"enable_thinkin": False})
