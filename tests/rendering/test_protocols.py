"""Action protocols: whatever is said is read without a crash, and what is written is read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sojourn.core import Action, FailureKind, ToolCall, ToolSpec
from sojourn.rendering import PROTOCOLS, ActionProtocol, CodeFence, JsonTags, PlainText, ReAct, XmlTags
from sojourn.rendering.reading import spoken


def spec(name: str, **types: str) -> ToolSpec:
    return ToolSpec(name, f"does {name}", {"type": "object", "properties": {key: {"type": kind} for key, kind in types.items()}})


TOOLS = (spec("calc", expression="string"), spec("move", x="integer", y="integer"), spec("look"), spec("wait", seconds="number"))
BY_NAME = {name: make(TOOLS) for name, make in PROTOCOLS.items()}

pieces = st.sampled_from(
    ["<calc>", "</calc>", "<move>", "</move>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "{", "}",
     '{"name": "calc"', '"x": 1',
     ', "arguments": ', "Action: ", "calc[", "]", "Final: ", "\nObservation: ", "```python\n", "\n```\n", "1 + 1", "\n", " ", "<think>", "</think>"]
)  # fmt: skip
anything = st.text() | st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)
line = st.text(st.characters(categories=["L", "N", "S"], exclude_characters="<>`"), min_size=1, max_size=10)
awkward = anything | st.sampled_from(['{"expression": "1"}', '{"a": 1}', " 1", "</calc>", ""])
json_values = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8)
calls = st.one_of(
    st.builds(lambda text: ToolCall("calc", {"expression": text}), awkward),
    st.builds(lambda x, y: ToolCall("move", {"x": x, "y": y}), json_values, json_values),
    st.just(ToolCall("look", {})),
    st.builds(lambda seconds: ToolCall("wait", {"seconds": seconds}), st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(lambda text: ToolCall("other", {"input": text}), line),
)
known = calls.filter(lambda call: call.name != "other")


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=80, deadline=None)
@given(text=anything)
@example(text='<tool_call>{"name": 1}</tool_call>')
@example(text='<tool_call>{"name": "calc", "arguments": {"x": NaN}}</tool_call>')
@example(text="<tool_call>" + "[" * 100_000 + "</tool_call>")
@example(text="<move>" + '{"x":' * 100_000 + "</move>")
@example(text="<calc><tool_call>\n```python\n" * 20_000)
@example(text="<think>" * 20_000 + "<calc>" * 20_000 + "</calc>")
@example(text="<think></think>" * 20_000)
@example(text="Action: move[" + "9" * 5000 + "]")
def test_any_text_is_read_and_written_back(name: str, text: str) -> None:
    protocol = BY_NAME[name]
    action = protocol.parse(text)
    assert action.text == text
    assert action.fault is None or (action.fault.kind is FailureKind.MODEL and not action.calls and action.answer is None)
    assert protocol.parse(protocol.format(action)) == action


@pytest.mark.parametrize("name", ["json", "xml"])
@settings(max_examples=60, deadline=None)
@given(thought=line | st.just(""), said=st.lists(known, min_size=1, max_size=3))
def test_calls_written_are_the_calls_read(name: str, thought: str, said: list[ToolCall]) -> None:
    written = BY_NAME[name].format(Action(thought, tuple(said)))
    read = BY_NAME[name].parse(written)
    assert (read.calls, read.fault, written.startswith(thought)) == (tuple(said), None, True)


@settings(max_examples=60, deadline=None)
@given(thought=line | st.just(""), call=calls)
def test_react_reads_the_call_it_wrote(thought: str, call: ToolCall) -> None:
    read = BY_NAME["react"].parse(BY_NAME["react"].format(Action(thought, (call,))))
    assert (read.calls, read.fault) == ((call,), None)


@settings(max_examples=50, deadline=None)
@given(code=st.lists(line, min_size=1, max_size=4).map("\n".join), thought=line | st.just(""))
def test_code_is_read_as_it_was_written(code: str, thought: str) -> None:
    call = ToolCall("python", {"code": code})
    read = CodeFence().parse(CodeFence().format(Action(thought, (call,))))
    assert (read.calls, read.fault) == ((call,), None)


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=30, deadline=None)
@given(answer=line)
def test_an_answer_written_is_the_answer_read(name: str, answer: str) -> None:
    read = BY_NAME[name].parse(BY_NAME[name].format(Action("", answer=answer)))
    assert (read.answer, read.calls, read.fault) == (answer.strip(), (), None)


@pytest.mark.parametrize(
    ("protocol", "text", "call"),
    [
        (
            JsonTags(),
            'So: <tool_call>\n{"name": "calc", "arguments": {"expression": "1+1"}}\n</tool_call>',
            {"expression": "1+1"},
        ),
        (XmlTags(TOOLS), "So: <calc> 1+1 </calc>", {"expression": "1+1"}),
        (XmlTags(TOOLS), 'So: <calc>{"expression": "1+1"}</calc>', {"expression": "1+1"}),
        (XmlTags(TOOLS), 'So: <calc>{"a": 1}</calc>', {"expression": '{"a": 1}'}),
        (XmlTags(("calc",)), "So: <calc>1+1</calc>", {"input": "1+1"}),
        (ReAct(TOOLS), "Thought: so.\nAction: calc[1+1]\nObservation:", {"expression": "1+1"}),
        (ReAct(TOOLS), "Action: calc[[1][0] + 1]", {"expression": "[1][0] + 1"}),
        (ReAct(), "Action: calc[1+1]", {"input": "1+1"}),
    ],
)
def test_calls_are_read_as_documented(protocol: ActionProtocol, text: str, call: dict[str, str]) -> None:
    assert protocol.parse(text) == Action(text, (ToolCall("calc", call),))


def test_fenced_code_is_a_call_of_the_interpreter() -> None:
    text = "Let me count.\n```python\nfor i in range(2):\n    print(i)\n```\n"
    assert CodeFence().parse(text).calls == (ToolCall("python", {"code": "for i in range(2):\n    print(i)"}),)
    assert CodeFence().parse("```\nno python\n```\n").calls == ()


@pytest.mark.parametrize(
    ("protocol", "text", "message"),
    [
        (JsonTags(), '<tool_call>{"name": "calc"', "the tag tool_call was opened and not closed"),
        (JsonTags(), "<tool_call>calc 1</tool_call>", "must hold one JSON object"),
        (JsonTags(), "<tool_call>[1]</tool_call>", "it is not an object"),
        (JsonTags(), '<tool_call>{"name": "calc", "arguments": {"x": NaN}}</tool_call>', "NaN is not JSON"),
        (JsonTags(), '<tool_call>{"arguments": {}}</tool_call>', '"name" must be a string'),
        (JsonTags(), '<tool_call>{"name": "calc", "arguments": "1"}</tool_call>', '"arguments" must be an object'),
        (XmlTags(TOOLS), "<calc>1+1", "the tag calc was opened and not closed"),
        (XmlTags(TOOLS), "<answer>42", "the tag answer was opened and not closed"),
        (XmlTags(TOOLS), "<move>left</move>", "the tag move must hold a JSON object of its arguments, not 'left'"),
        (ReAct(TOOLS), "Thought: hm.", "Action: name[argument]"),
        (ReAct(TOOLS), "Action: calc 1+1", "must end with name[argument], not 'calc 1+1'"),
        (ReAct(TOOLS), "Action: move[left]", "move[...] must hold a JSON object"),
        (CodeFence(), "```python\nprint(1)", "not closed by a line of three backticks"),
    ],
)
def test_a_malformed_call_is_a_fault_that_says_what_to_write(protocol: ActionProtocol, text: str, message: str) -> None:
    action = protocol.parse(text)
    assert action.fault is not None and message in action.fault.message
    assert (action.text, action.calls, action.answer) == (text, (), None)


@pytest.mark.parametrize("name", ["json", "xml", "react", "code"])
def test_a_stop_text_completes_the_action_and_no_less_does(name: str) -> None:
    protocol, call = BY_NAME[name], ToolCall("python", {"code": "1"}) if name == "code" else ToolCall("calc", {"expression": "1"})
    text = protocol.format(Action("", (call,))) + ("\nObservation:" if name == "react" else "")
    assert text.endswith(protocol.stop)
    assert not any(stop in text[:-1] for stop in protocol.stop)
    assert protocol.parse(text).calls == (call,)


def test_a_text_without_tags_is_neither_call_nor_answer() -> None:
    assert XmlTags(TOOLS).parse("42") == Action("42")
    assert XmlTags(TOOLS, answer=None).parse("42") == Action("42", answer="42")


def test_an_action_that_its_text_says_is_written_as_it_is() -> None:
    text = "Hm. <calc>1+1</calc>"
    assert XmlTags(TOOLS).format(Action(text, (ToolCall("calc", {"expression": "1+1"}),))) == text


@pytest.mark.parametrize("name", ["json", "xml", "react"])
def test_every_tool_is_described(name: str) -> None:
    text = BY_NAME[name].describe(TOOLS)
    assert all(tool.name in text and tool.description in text for tool in TOOLS)
    assert "expression" in text and "seconds" in text


@pytest.mark.parametrize("name", BY_NAME)
def test_no_tools_no_description(name: str) -> None:
    assert BY_NAME[name].describe(()) == ""


def test_the_xml_description_is_short() -> None:
    assert XmlTags(TOOLS).describe(TOOLS[:1]) == "Tool: <calc>expression</calc> does calc\nAnswer: <answer>...</answer>"


def test_json_describes_the_schema() -> None:
    row = JsonTags().describe(TOOLS[:1]).splitlines()[1]
    assert json.loads(row) == {"name": "calc", "description": "does calc", "parameters": dict(TOOLS[0].parameters)}


def test_a_tool_without_a_tag_is_refused() -> None:
    with pytest.raises(ValueError, match=r"knows the tags search, answer, the world offers tool 'calc'.*XmlTags\(tools="):
        XmlTags(("search",)).describe(TOOLS)


def test_plain_text_cannot_call() -> None:
    with pytest.raises(ValueError, match="plain text cannot call tool 'look'"):
        PlainText().format(Action("", (ToolCall("look"),)))
    with pytest.raises(ValueError, match="a block of code cannot call tool 'look'"):
        CodeFence().format(Action("", (ToolCall("look"),)))


DRAFTS = ["", "hm\n", *(f"maybe {BY_NAME[name].format(Action('', answer='draft'))} no " for name in BY_NAME)]
DRAFTS += [BY_NAME[name].format(Action("so", (ToolCall("calc", {"expression": "7"}),))) for name in ("json", "xml", "react")]
DRAFTS += ["```python\n7\n```\n", "<calc>", "<answer>", "<tool_call>", "Action: calc[", "\nFinal: 7\nObservation: 8\n"]


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=60, deadline=None)
@given(draft=st.sampled_from(DRAFTS), text=anything.filter(lambda text: "think>" not in text))
def test_thinking_does_not_matter(name: str, draft: str, text: str) -> None:
    """Whatever is thought: what follows is all that acts."""
    plain, thought = (BY_NAME[name].parse(before + "\n" + text) for before in ("", f"<think>{draft}</think>"))
    assert (thought.calls, thought.answer, thought.fault) == (plain.calls, plain.answer, plain.fault)


@pytest.mark.parametrize("name", ["json", "xml", "code", "text"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_thinking_that_the_prompt_opened_does_not_matter(name: str, draft: str) -> None:
    plain, thought = (BY_NAME[name].parse(before + "\n<calc>1</calc><answer>2</answer>") for before in ("", f"{draft}</think>"))
    assert (thought.calls, thought.answer, thought.fault) == (plain.calls, plain.answer, plain.fault)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("draft", DRAFTS)
def test_who_never_stops_thinking_has_not_acted(name: str, draft: str) -> None:
    action = BY_NAME[name].parse(f"<think>{draft}")
    assert action.calls == ()
    assert action.answer in (None, "")


def test_a_mark_of_thinking_in_a_call_is_data() -> None:
    call = ToolCall("calc", {"expression": "print('<think></think>')"})
    for name in ("json", "xml", "react"):
        assert BY_NAME[name].parse(BY_NAME[name].format(Action("Hm", (call,)))).calls == (call,)


def test_a_tool_may_be_called_think() -> None:
    assert XmlTags(("think",)).parse("<think>so</think>").calls == (ToolCall("think", {"input": "so"}),)


def test_a_tag_is_its_name_and_no_pattern() -> None:
    protocol = XmlTags(("a.b",))
    assert protocol.parse("<a.b>1</a.b>").calls == (ToolCall("a.b", {"input": "1"}),)
    assert protocol.parse("<axb>1</axb><a.b>2</axb></a.b>").calls == (ToolCall("a.b", {"input": "2</axb>"}),)


def test_what_is_written_after_an_open_thought_is_read() -> None:
    call = ToolCall("calc", {"expression": "1"})
    for name in ("json", "xml", "react"):
        assert BY_NAME[name].parse(BY_NAME[name].format(Action("<think>hm", (call,)))).calls == (call,)


@pytest.mark.parametrize(
    ("protocol", "text", "answer"),
    [
        (XmlTags(TOOLS), "I use <answer> tags. <answer>5</answer>", "5"),
        (XmlTags(TOOLS), "<answer>4</answer> no: <answer>5</answer>", "5"),
        (XmlTags(TOOLS), "<answer>5</answer> is in <answer>", "5"),
        (XmlTags(TOOLS), "With <calc> it would be easy. <answer>5</answer>", "5"),
        (ReAct(TOOLS), "Final: 4\nNo.\nFinal: 5", "5"),
        (PlainText(), "<think>4?</think> 5", "5"),
        (JsonTags(), "<think><tool_call>4</tool_call></think> 5", "5"),
        (CodeFence(), "<think>\n```python\n4\n```\n</think>\n5", "5"),
    ],
)
def test_the_last_complete_answer_counts(protocol: ActionProtocol, text: str, answer: str) -> None:
    assert protocol.parse(text) == Action(text, answer=answer)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (JsonTags(), 'By <tool_call> I call. <tool_call>{"name": "calc", "arguments": {"expression": "1"}}</tool_call>'),
        (JsonTags(), '<tool_call>{"name": "calc", "arguments": "{\\"expression\\": \\"1\\"}"}</tool_call>'),
        (JsonTags(), '<tool_call>"{\\"name\\": \\"calc\\", \\"arguments\\": {\\"expression\\": \\"1\\"}}"</tool_call>'),
        (XmlTags(TOOLS), "I give an <answer> later. I call <calc> first. <calc>1</calc>"),
        (XmlTags(TOOLS), '<calc>{"expression": "1"}</calc>'),
    ],
)
def test_a_call_is_found_among_mentions_and_in_texts_of_json(protocol: ActionProtocol, text: str) -> None:
    assert protocol.parse(text) == Action(text, (ToolCall("calc", {"expression": "1"}),))


def test_a_raw_newline_in_a_string_of_json_is_a_newline() -> None:
    json_text = '<tool_call>{"name": "calc", "arguments": {"expression": "1\n+ 1"}}</tool_call>'
    assert JsonTags().parse(json_text).calls == (ToolCall("calc", {"expression": "1\n+ 1"}),)
    assert XmlTags(TOOLS).parse('<calc>{"expression": "1\n+ 1"}</calc>').calls == JsonTags().parse(json_text).calls


FAULTS = [
    "<tool_call>", "<tool_call>1</tool_call>", '<tool_call>{"name": 1}</tool_call>', "<answer>", "<calc>1+1",
    "<move><answer>5</answer></move>", "<move><tool_call>\n```python\n</move>", "Action: <answer>5</answer>",
    "Action: move[<answer>5</answer>]", "Action: move[\nFinal: 5]", "```python\n1", "", "Thought: 5",
]  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from(FAULTS) | anything, edge=st.sampled_from(["", " ", "\n"]))
def test_a_fault_that_is_repeated_is_no_action_in_any_protocol(name: str, text: str, edge: str) -> None:
    fault = BY_NAME[name].parse(text).fault
    for reader in BY_NAME.values() if fault else ():
        echo = reader.parse(edge + str(fault and fault.message) + edge)
        assert (echo.calls, echo.answer) == ((), None)


def test_every_protocol_but_plain_text_has_faults_among_the_examples() -> None:
    faulty = {name for name, protocol in BY_NAME.items() if any(protocol.parse(text).fault for text in FAULTS)}
    assert faulty == set(BY_NAME) - {"text"}


def test_what_is_said_is_all_but_what_is_thought() -> None:
    assert spoken(" a <think>b</think> c ") == "a  c"
    assert spoken("b</think>c") == "c"
    assert spoken("a<think>b") == "a"
