"""What the tests of engine, learner and training share: tiny models, and plain references that know nothing of our code.

The references run the model as `transformers` ships it, on one sequence at a time, with its own attention.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup, Ints
from sojourn.engine import Completion, SamplingParams, linear, llama, native, plan, sampling
from sojourn.engine.local import LocalEngine
from sojourn.learner import llama as learner_llama
from sojourn.models import LoadedModel, tiny

WINDOW = {"sliding_window": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": WINDOW,
    "gemma3": WINDOW,
    "gpt_oss": WINDOW,
}
"""Model types, with what makes them hard: windows are far smaller than the tests' contexts, gpt-oss has sinks and experts."""


@pytest.fixture(scope="module", autouse=True, params=["kernels in C", "torch alone"])
def with_and_without_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """For the tests of a folder whose conftest imports it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch alone":
            for user in (llama, linear, plan, sampling, learner_llama):
                patch.setattr(user, "kernels", lambda dtype: None)
        elif native.kernels(torch.float32) is None:
            pytest.skip("no C compiler here")
        yield


def small(architecture: str = "llama", **config: Any) -> LoadedModel:
    """A tiny model; each call gives an equal, independent one."""
    return tiny(hidden=32, layers=2, heads=4, architecture=architecture, **(ARCHITECTURES.get(architecture, {}) | config))


def saved(loaded: LoadedModel, folder: Path) -> Path:
    """A model as a user names one: a directory."""
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def engine_for(loaded: LoadedModel, **settings: Any) -> LocalEngine:
    return LocalEngine(loaded.model, loaded.tokenizer, **settings)


def prompt(length: int, seed: int = 0) -> Ints:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, length)


def logits_of(reference: LoadedModel, tokens: Ints) -> NDArray[np.float64]:
    """What the plain model says after each token: shape (n, V)."""
    with torch.no_grad():
        return reference.model(torch.from_numpy(np.asarray(tokens))[None]).logits[0].double().numpy()


def sampled_distribution(
    logits: NDArray[np.float64], params: SamplingParams, legal: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Log-probabilities (V,) of the restricted distribution, from its definition: one set of ids after the other."""
    p = np.where(np.isin(np.arange(len(logits)), list(legal)), logits, -np.inf) if legal is not None else logits
    if params.temperature == 0:
        return np.where(np.arange(len(p)) == p.argmax(), 0.0, -np.inf)
    p = softmax(p / params.temperature)
    if params.top_k:
        p = softmax(np.log(np.where(p >= np.sort(p)[-params.top_k], p, 0.0) + 1e-300))
    p = np.where(p >= params.min_p * p.max(), p, 0.0)
    p = p / p.sum()
    likeliest_first = np.argsort(-p)
    count = int(np.searchsorted(np.cumsum(p[likeliest_first]), params.top_p - 1e-12)) + 1
    kept = np.isin(np.arange(len(p)), likeliest_first[:count]) & (p > 0)
    with np.errstate(divide="ignore"):
        return np.log(np.where(kept, p, 0.0) / p[kept].sum())


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum())


def assert_faithful(reference: LoadedModel, context: Ints, completion: Completion, params: SamplingParams) -> None:
    """Every token is one that the plain model's restricted distribution allows, with its log-probability; a greedy one is, by
    induction over the tokens, what `transformers.generate` would say."""
    logits = logits_of(reference, np.concatenate([context, completion.tokens]))[len(context) - 1 : -1]
    for index, (token, logprob) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
        legal = None
        if params.allowed is not None:
            said = completion.tokens[:index].tolist()
            legal = [s[index] for s in params.allowed if list(s[:index]) == said and len(s) > index]
        expected = sampled_distribution(logits[index], params, legal)[token]
        assert abs(expected - logprob) < 1e-4, f"token {index}: {logprob} instead of {expected}"


def sample_all(engine: LocalEngine, requests: Sequence[tuple[Ints, SamplingParams]]) -> list[Completion]:
    """All requests at once."""

    async def together() -> list[Completion]:
        return list(await asyncio.gather(*(engine.sample(tokens, params) for tokens, params in requests)))

    return asyncio.run(together())


async def steps_later(engine: LocalEngine, count: int) -> None:
    """Until the engine has begun so many further steps, or has nothing to do: for requests that arrive while others run."""
    for _ in range(count):
        step = engine._step
        while engine._live and engine._step is step:
            await asyncio.sleep(1e-4)


def unique_prefixes(paths: Sequence[Ints]) -> int:
    """How many different non-empty prefixes the sequences have: the tokens of their tree."""
    return len({tuple(path[: n + 1].tolist()) for path in paths for n in range(len(path))})


def paths_of(group: EpisodeGroup) -> list[Ints]:
    """The token sequence up to each action of each episode."""
    return [group.tree.tokens(span) for episode in group.episodes for span in episode.actions]
