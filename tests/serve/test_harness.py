"""A public harness, unchanged: smolagents' CodeAgent asks the gateway, runs the code that the policy wrote, and is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import saved
from small_run import config, experiment

from sojourn.engine import Completion
from sojourn.engine.local import LocalEngine
from sojourn.serve import Outside, Seat
from sojourn.store import read_episodes
from sojourn.store.episodes import rebuild
from sojourn.training import train

smolagents = pytest.importorskip("smolagents")

PROMPTS = {
    "system_prompt": "Write code.",
    "planning": {"initial_plan": "", "update_plan_pre_messages": "", "update_plan_post_messages": ""},
    "managed_agent": {"task": "{{task}}", "report": "{{final_answer}}"},
    "final_answer": {"pre_messages": "Answer.", "post_messages": "{{task}}"},
}
"""Shorter than its own, which are longer than a tiny model's context."""


def code_agent(seat: Seat) -> float:
    """Pays for an answer that came from code."""
    model = smolagents.OpenAIServerModel(model_id=seat.model, api_base=seat.base_url, api_key=seat.api_key, max_tokens=8)
    agent = smolagents.CodeAgent(tools=[], model=model, prompt_templates=PROMPTS, max_steps=2, verbosity_level=0)
    return float(len(str(agent.run(seat.messages[-1]["content"]))) % 3)


def test_a_public_harness_is_trained_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import small

    loaded = small()
    saved(loaded, tmp_path / "model")
    sampled: list[tuple[int, ...]] = []
    sample = LocalEngine.sample

    async def noted(self: LocalEngine, tokens: Any, params: Any) -> Completion:
        completion = await sample(self, tokens, params)
        sampled.append((*np.asarray(tokens).tolist(), *completion.tokens.tolist()))
        return completion

    monkeypatch.setattr(LocalEngine, "sample", noted)
    settings = {"steps": 2, "groups": 1, "group_size": 2, "max_context": 2000, "eval_tasks": 0}
    parts = replace(experiment(), program=Outside(code_agent))
    summary = train(config(tmp_path / "run", tmp_path / "model", **settings), parts)
    assert summary["steps"] == 2
    trained = []
    for row in read_episodes(tmp_path / "run", "phase = 'train'"):
        (episode,) = rebuild([row]).episodes
        assert len(episode.actions) >= 2, "it is asked again after its code failed"
        trained += [tuple(episode.tree.tokens(span).tolist()) for span in episode.actions]
    assert sorted(trained) == sorted(sampled[1:])  # the first is the contract check's
