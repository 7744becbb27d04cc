"""Records to episodes (what stands in the context, what is trained) and reward functions in TRL's signature."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small

from sojourn.core import Action, Kind, Transition, assistant, tool, user
from sojourn.core.message import ToolCall, ToolSpec
from sojourn.data import Answer, Data, Record, load_function, prompt_world, protocol_of, to_group, to_groups
from sojourn.rendering import ChatRenderer

ASK = (user("2 + 2?"),)
CALL = assistant("", [ToolCall("add", {"a": 2, "b": 2})])
TOOLS = (ToolSpec("add", "adds", {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}),)


def data(*records: Record, kind: Any = "supervised") -> Data:
    return Data("data", kind, records, len(records))


def renderer(found: Data) -> ChatRenderer:
    return ChatRenderer(small().tokenizer, protocol_of(found))


def test_the_whole_context_is_the_template_s_text_and_answers_alone_are_trained() -> None:
    found = data(Record("line 1", ASK, (Answer((assistant("4"), user("sure?"), assistant("Yes."))),)))
    chat = renderer(found)
    (group,), _ = to_groups(found, chat, most=100)
    (episode,) = group.episodes
    (leaf,) = episode.leaves
    talk = [
        {"role": r, "content": c} for r, c in (("user", "2 + 2?"), ("assistant", "4"), ("user", "sure?"), ("assistant", "Yes."))
    ]
    text = str(chat.tokenizer.apply_chat_template(talk, tokenize=False))
    assert chat.tokenizer.decode(group.tree.tokens(leaf)) + "\n" == text
    said = [(group.tree[span].kind, chat.tokenizer.decode(group.tree[span].tokens)) for span in episode.actions]
    assert said == [(Kind.FORCED, "4<|im_end|>"), (Kind.FORCED, "Yes.<|im_end|>")]


def test_both_answers_of_a_pair_share_the_prompt_s_tokens() -> None:
    found = data(Record("line 1", ASK, (Answer((assistant("4"),), 1.0), Answer((assistant("5"),), 0.0))), kind="preference")
    (group,), _ = to_groups(found, renderer(found), most=100)
    first, second = (group.tree.path(episode.leaves[0]) for episode in group.episodes)
    assert first[:-1] == second[:-1] and first[-1] != second[-1]
    assert [episode.total for episode in group.episodes] == [1.0, 0.0]


def test_calls_are_written_as_the_protocol_reads_them_and_results_are_not_trained() -> None:
    found = data(Record("line 1", ASK, (Answer((CALL, tool("4", "add"), assistant("It is 4."))),), TOOLS))
    chat = renderer(found)
    group = to_group(found.records[0], chat)
    call, answer = (chat.decode(group.tree[span].tokens.tolist()) for span in group.episodes[0].actions)
    assert chat.protocol.parse(call).calls == CALL.calls
    assert answer == "It is 4."
    read = chat.tokenizer.decode(np.concatenate([span.tokens for span in group.tree.spans if span.kind is Kind.OBSERVATION]))
    assert '"name": "add"' in read and "It is 4." not in read


def test_a_row_longer_than_the_context_is_named_with_its_length() -> None:
    long = Record("line 2", ASK, (Answer((assistant("x" * 100),)),))
    found = data(Record("line 1", ASK, (Answer((assistant("4"),)),)), long)
    groups, left = to_groups(found, renderer(found), most=60)
    assert [group.key for group in groups] == ["line 1"]
    assert "longer than the context of 60 (raise max_context)" in left.told()
    with pytest.raises(ValueError, match="line 2: it has 1"):
        to_groups(data(long), renderer(found), most=60)


def paid(record: Record, *rewards: Callable[..., Any], said: str = "four") -> Transition:
    world = prompt_world(data(record, kind="prompt"), rewards)

    async def play() -> Transition:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", 0), seed=0)
        return await environment.step(Action(said))

    return asyncio.run(play())


def test_a_reward_function_gets_columns_prompts_and_completions_as_lists_of_one() -> None:
    seen: list[dict[str, Any]] = []

    def everything(**given: Any) -> list[float]:
        seen.append(given)
        return [1.0]

    def answer_only(completions: list[str], answer: list[int], weight: float = 2.0) -> list[float]:
        return [weight * (completions == ["four"]) * answer[0]]

    transition = paid(Record("line 1", "q", columns={"answer": 4}), everything, answer_only)
    assert transition.reward == {"everything": 1.0, "answer_only": 8.0}
    assert seen == [{"prompts": ["q"], "completions": ["four"], "answer": [4]}]
    paid(Record("line 1", ASK), everything)
    assert seen[1] == {
        "prompts": [[{"role": "user", "content": "2 + 2?"}]],
        "completions": [[{"role": "assistant", "content": "four"}]],
    }


def none(completions: list[str]) -> list[None]:
    return [None]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ((lambda completions, missing: [1.0],), "asks for 'missing', but line 1 has answer, prompts, completions"),
        ((lambda completion_ids: [1.0],), "token ids, which Sojourn does not give"),
        ((lambda completions: 1.0,), "returned 1.0 for one answer, expected a list"),
        ((none,), "no reward function judged it"),
        ((none, none), "two reward functions have one name"),
        ((), "there is no reward function"),
    ],
)
def test_a_reward_that_cannot_be_paid_is_an_error_and_never_0(rewards: tuple[Callable[..., Any], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paid(Record("line 1", "q", columns={"answer": 4}), *rewards)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pay.py", "expected FILE.py:function"),
        ("gone.py:pay", "there is no file"),
        ("pay.py:pey", "has no function 'pey'; it has pay"),
        ("broken.py:pay", "cannot be loaded: NameError"),
    ],
)
def test_a_function_that_is_not_there_is_told(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pay.py").write_text("import beside_pay\ndef pay(completions): return beside_pay.worth\n")
    Path("beside_pay.py").write_text("worth = [0.5]\n")
    Path("broken.py").write_text("nowhere")
    assert load_function("pay.py:pay")(["x"]) == [0.5]
    with pytest.raises(ValueError, match=message):
        load_function(name)
