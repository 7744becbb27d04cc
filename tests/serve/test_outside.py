"""An agent written with the `openai` SDK is trained unchanged: through the real HTTP, with the real SDK."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from outside_agents import two_turns
from small_run import config, experiment

from sojourn.core import Kind, UserCodeError
from sojourn.engine import Completion
from sojourn.engine.local import LocalEngine
from sojourn.serve import Outside, Seat
from sojourn.store import read_episodes
from sojourn.store.episodes import rebuild
from sojourn.training import Trainer, train, weights


def played(agent: Any, **settings: Any) -> Any:
    return replace(experiment(), program=Outside(agent, **settings))


def by_sdk(seat: Seat) -> str:
    client = openai.OpenAI(base_url=seat.base_url, api_key=seat.api_key, max_retries=0)
    return two_turns(client, seat.model, seat.messages[-1]["content"])


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All that the engine samples: what was asked, and what it said, as ids."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    sample = LocalEngine.sample

    async def noted(self: LocalEngine, tokens: Any, params: Any) -> Completion:
        completion = await sample(self, tokens, params)
        found.append((tuple(np.asarray(tokens).tolist()), tuple(completion.tokens.tolist())))
        return completion

    monkeypatch.setattr(LocalEngine, "sample", noted)
    return found


def test_the_tokens_that_are_trained_are_those_that_were_sampled(tmp_path: Path, model: Path, sampled: list[Any]) -> None:
    run = tmp_path / "run"
    train(config(run, model, steps=2, max_context=400, eval_tasks=0), played(by_sdk))
    trained, seconds = [], 0
    for row in read_episodes(run, "phase = 'train'"):
        (episode,), tree = rebuild([row]).episodes, rebuild([row]).tree
        first, second = episode.actions
        seconds += first in tree.path(second)
        for action in episode.actions:
            assert tree[action].kind is Kind.ACTION
            trained.append((tuple(tree.tokens(tree[action].parent).tolist()), tuple(tree[action].tokens.tolist())))
    contract = 1  # what `check_contract` samples before the first step
    assert sorted(trained) == sorted(sampled[contract:])
    assert seconds == len(trained) / 2 == 16, "each second call goes on after the tokens of the first"
    moved = [not np.array_equal(a.detach(), b.detach()) for a, b in _both(run, model)]
    assert any(moved), "and the weights have moved"


def _both(run: Path, model: Path) -> Any:
    trained, before = (weights.load(str(name)).model.parameters() for name in (run, model))
    return zip(trained, before, strict=True)


def test_a_command_is_an_agent(tmp_path: Path, model: Path) -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "outside_agents.py")]
    settings = config(tmp_path, model, steps=1, groups=1, group_size=2, max_context=400, eval_tasks=0)
    train(settings, played(command))
    rows = read_episodes(tmp_path, "phase = 'train'")
    assert [len(row["actions"]) for row in rows] == [2, 2]


async def asynchronous(seat: Seat) -> float:
    client = openai.AsyncOpenAI(base_url=seat.base_url, api_key=seat.api_key)
    said = await client.chat.completions.create(model=seat.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    return float(len(said.choices[0].message.content or ""))


def test_an_agent_may_pay_itself_and_be_async(tmp_path: Path, model: Path) -> None:
    settings = config(tmp_path, model, steps=1, groups=1, group_size=2, eval_tasks=0)
    train(settings, played(asynchronous))
    for row in read_episodes(tmp_path, "phase = 'train'"):
        assert 0 <= row["total"] <= 4


def test_an_agent_that_never_asks_is_told(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UserCodeError, match="ended without asking the policy once"):
        train(config(tmp_path, model, steps=1, eval_tasks=0), played(lambda seat: 1.0))


def test_an_agent_that_falls_over_is_told_where(tmp_path: Path, model: Path) -> None:
    def broken(seat: Seat) -> float:
        by_sdk(seat)
        raise KeyError("my bug")

    with pytest.raises(UserCodeError, match="KeyError: 'my bug'"):
        train(config(tmp_path, model, steps=1, max_context=400, eval_tasks=0), played(broken))


def greedy_talker(seat: Seat) -> float:
    """Asks until the context is full."""
    client = openai.OpenAI(base_url=seat.base_url, api_key=seat.api_key, max_retries=0)
    messages: Any = [{"role": "user", "content": "Tell me more. " * 5}]
    while True:
        said = client.chat.completions.create(model=seat.model, messages=messages)
        messages += [said.choices[0].message, {"role": "user", "content": "Tell me more. " * 5}]


def test_an_agent_whose_context_is_full_has_spent_its_budget(tmp_path: Path, model: Path) -> None:
    trainer = Trainer(config(tmp_path, model, max_context=200), played(greedy_talker))
    import asyncio

    (group,) = asyncio.run(trainer.rollout().groups(trainer.held_out(1)[:1], size=1, seed=0))
    (episode,) = group.episodes
    assert episode.valid and episode.stop is not None and episode.stop.value == "token_limit"
    assert "policy 'actor' holds 200" in episode.failures[0].message and len(episode.actions) > 1


def test_an_agent_that_hangs_is_no_fault_of_the_policy(tmp_path: Path, model: Path) -> None:
    import asyncio
    import threading

    release = threading.Event()
    trainer = Trainer(config(tmp_path, model, retries=0), played(lambda seat: release.wait(60), seconds=0.2))
    with pytest.raises(Exception, match="the agent has not ended after 0.2 s"):
        asyncio.run(trainer.rollout().groups(trainer.held_out(1)[:1], size=1, seed=0))
    release.set()
