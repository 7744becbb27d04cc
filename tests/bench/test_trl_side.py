"""TRL's side of the benchmarks does what its figures will say it did."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from sojourn.models import tiny

pytest.importorskip("trl")

from sojourn.bench import trl
from sojourn.environments.math.tool_arithmetic import ToolArithmetic, calc


@pytest.fixture
def loop() -> trl.TrlLoop:
    loaded = tiny(hidden=32, layers=1)
    return trl.TrlLoop(
        loaded.model, loaded.tokenizer, prompts=2, group=2, turns=3, action_tokens=4, prompt_tokens=80, observation_tokens=70,
        micro_batch=2, learning_rate=1e-2,
    )  # fmt: skip


def test_every_action_has_the_length_that_the_script_says(loop: trl.TrlLoop) -> None:
    prompts, _, masks, *_ = loop._trainer._generate([each["prompt"] for each in loop._batch])
    assert [len(ids) for ids in prompts] == [80] * 4
    assert masks == [[1] * 4 + [0] * 70 + [1] * 4 + [0] * 70 + [1] * 4] * 4
    assert loop.rollout() == trl.Counts(sampled_tokens=48, episodes=4)


def test_a_step_trains_on_what_it_sampled(loop: trl.TrlLoop) -> None:
    before = [weight.detach().clone() for weight in loop._model.parameters()]
    assert loop.step() == loop.step() == trl.Counts(sampled_tokens=48, episodes=4)
    assert all((weight != old).any() for weight, old in zip(loop._model.parameters(), before, strict=True))


def test_the_loss_on_given_tokens_has_the_gradient_of_padded_rows(loop: trl.TrlLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    from sojourn.bench.update import episodes, padded_rows

    group, plain = episodes(0.5, 3, 24), tiny(hidden=32, layers=1).model
    spans = [group.tree[episode.actions[0]] for episode in group.episodes]
    each = [1.0, -0.5, 0.25]
    for span in spans:
        span.tokens[:] %= 256  # of the vocabulary
    prompt = group.tree.tokens(spans[0].parent)
    prompt[:] %= 256
    group.tree[spans[0].parent].tokens[:] = prompt
    monkeypatch.setattr(loop, "_apply", lambda: None)
    loop.learn(prompt, [span.tokens for span in spans], each)
    padded_rows(plain, group, np.repeat(each, [len(span.tokens) for span in spans]))
    for mine, theirs in zip(plain.parameters(), loop._model.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, mine.grad, atol=1e-5, rtol=1e-3)


def test_an_episode_that_does_not_fit_is_an_error() -> None:
    loaded = tiny(hidden=32, layers=1, context=128)
    loop = trl.TrlLoop(
        loaded.model, loaded.tokenizer, prompts=1, group=2, turns=3, action_tokens=4, prompt_tokens=80, observation_tokens=70,
        micro_batch=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match="128 positions"):
        loop.rollout()


def test_the_world_judges_what_trl_played() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    (left, right), operator = task.data["numbers"], task.data["operators"]
    expression = f"{left} {operator} {right}"
    value = calc.function(expression)
    call = {"type": "function", "function": {"name": "calc", "arguments": {"expression": expression}}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    heard, answered = {"role": "tool", "content": value}, {"role": "assistant", "content": value}
    assert asyncio.run(trl._judge(task, [called, heard, answered])) == (1.5, True)
    assert asyncio.run(trl._judge(task, [called, heard])) == (0.5, False)
    assert asyncio.run(trl._judge(task, [{"role": "assistant", "content": "no idea"}])) == (0.0, False)


def test_the_prompt_shows_calls_as_trl_reads_them() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    trainer = quickstart([])
    rendered = trainer.processing_class.apply_chat_template(asyncio.run(trl._question(task)), tokenize=False)
    call = '<tool_call>\n{"name": "calc", "arguments": {"expression": "408 + 5"}}\n</tool_call><|im_end|>'
    assert f"<|im_start|>assistant\n{call}" in rendered
    read = trainer.processing_class.parse_response(call, prefix="<|im_start|>assistant\n")
    assert read["tool_calls"][0]["function"] == {"name": "calc", "arguments": {"expression": "408 + 5"}}


def test_the_quickstart_reports_every_step() -> None:
    lines: list[dict[str, Any]] = []
    quickstart(lines).train()
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["success"] == 0.0 for line in lines)  # random weights
    assert 0 < lines[0]["seconds"] < lines[1]["seconds"]


def quickstart(lines: list[dict[str, Any]]) -> Any:
    loaded = tiny(hidden=32, layers=1, context=4096)
    return trl.quickstart_trainer(
        loaded.model, loaded.tokenizer, seed=0, groups=2, group_size=2, micro_batch=2, max_steps=2, log=lines.append
    )
