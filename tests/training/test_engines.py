"""The trainer knows engines by their protocol alone, and each text by the tokenizer of who reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import saved, small
from pennies import game
from small_run import config, experiment
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import Floats, Ints
from sojourn.engine import Completion, Engine, SamplingParams
from sojourn.models import tiny
from sojourn.store import read_episodes
from sojourn.training import Former, Role, TrainConfig, Trainer, train
from sojourn.training.setup import check_contract


class Plain:
    """An engine of a few lines: one token after the other, by the model as `transformers` ships it; nothing but the protocol."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        self._weights, self._context, self._sampled, self._version = model, context, 0, 0
        self._plain = small().model
        self.calls: list[str] = []

    @property
    def max_context(self) -> int:
        return self._context

    @property
    def version(self) -> int:
        return self._version

    @property
    def sampled_tokens(self) -> int:
        return self._sampled

    @property
    def computed_tokens(self) -> int:
        return self._sampled

    def _logps(self, tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return self._plain(torch.tensor([tokens])).logits[0].log_softmax(-1)

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        self.calls.append("sample")
        draw, said, logps = np.random.default_rng(params.seed), [int(t) for t in tokens], []
        for _ in range(params.max_tokens):
            await asyncio.sleep(0)
            logp = self._logps(said)[-1].double().numpy()
            token = int(draw.choice(len(logp), p=np.exp(logp) / np.exp(logp).sum()))
            said.append(token)
            logps.append(float(logp[token]))
            self._sampled += 1
            if token in params.ends:
                break
        new = np.asarray(said[len(tokens) :], np.int64)
        ended = int(new[-1]) in params.ends
        return Completion(new, np.asarray(logps, np.float32), "stop" if ended else "length", self._version, ended)

    async def score(self, tokens: Ints, adapter: str | None = None) -> Floats:
        logps = self._logps(tokens.tolist())[:-1]
        return np.concatenate([[0.0], logps[torch.arange(len(logps)), torch.from_numpy(tokens[1:])].numpy()]).astype(np.float32)

    def update(self, version: int) -> None:
        self.calls.append(f"update {version}")
        self._plain.load_state_dict(self._weights.state_dict())
        self._version = version

    async def close(self) -> None:
        """Nothing is held."""


def plain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, *, max_batch: int) -> Engine:
    return Plain(model, tokenizer, config.max_context)


def test_an_engine_that_has_the_protocol_and_nothing_else_trains(tmp_path: Path) -> None:
    """The trainer finds it faithful, learns from what it sampled, and tells it of new weights."""
    trainer = Trainer(config(tmp_path, tmp_path), experiment(), small(), plain)
    assert check_contract(trainer) < 1e-4
    before = [p.detach().clone() for p in trainer.model.parameters()]
    _, metrics = asyncio.run(trainer.train_step())
    assert metrics["trained_tokens"] > 0 and metrics["grad_norm"] > 0
    assert any(not torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))
    assert isinstance(trainer.engine, Plain)
    assert trainer.engine.calls.count("sample") == 8 + 1, "eight episodes, and the check"
    assert trainer.engine.calls[-1] == "update 1"
    second, _ = asyncio.run(trainer.train_step())
    assert {e.tree[span].version for group in second for e in group.episodes for span in e.actions} == {1}


@pytest.mark.parametrize("rank", [0, 2], ids=["own engines", "one engine"])
def test_what_a_former_self_said_is_of_its_version_and_a_frozen_role_s_of_none(rank: int, tmp_path: Path) -> None:
    roles = {
        "actor": Role(lora_rank=rank),
        "past": Role(former=Former(every=2, opponents="latest")),
        "judge": Role(learns=False),
    }
    for seats, expected in (({"even": "actor", "odd": "past"}, [0, 0, 2, 2]), ({"even": "actor", "odd": "judge"}, [0, 0, 0, 0])):
        trainer = Trainer(config(tmp_path, tmp_path, max_context=300), game(roles, seats), small())
        for step in range(4):
            groups, _ = asyncio.run(trainer.train_step())
            spans = [e.tree[span] for group in groups for e in group.episodes for span in e.actions]
            assert {span.version for span in spans if span.agent == "even"} == {step}
            assert {span.version for span in spans if span.agent == "odd"} == {expected[step]}


def test_the_texts_of_a_role_are_read_with_its_own_tokenizer(tmp_path: Path, model: Path) -> None:
    """The second role's tokenizer knows words where the first has a token for each byte: the ids of one are noise to the other."""
    other, run = tmp_path / "other", tmp_path / "run"
    words = tiny(hidden=32, layers=2, heads=4, vocab=["You are odd. Choose l or r. It was l. It was r."] * 9, vocab_size=300)
    saved(words, other)
    seats = {"even": "even", "odd": "odd"}
    parts = game({"even": Role(), "odd": Role(model=str(other))}, seats)
    train(config(run, model, steps=1, eval_tasks=1, max_context=300), parts)
    rows = read_episodes(run)
    assert {row["phase"] for row in rows} == {"train", "eval-before-sampled", "eval-after-sampled"}
    seen = {"even": 0, "odd": 0}
    for span in (span for row in rows for span in row["spans"]):
        seen[span["agent"]] += 1
        if span["kind"] == "action":
            assert span["text"].removesuffix("<|im_end|>") in ("l", "r") and span["ends"][-1] == len(span["text"])
        elif span["parent"] == -1:
            assert f"You are {span['agent']}. Choose l or r." in span["text"]
        elif span["message"]:
            assert "It was " in span["text"]
    assert seen["even"] > 10 and seen["odd"] > 10
