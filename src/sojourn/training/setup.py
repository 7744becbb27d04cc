"""What must stand before the first step: the model, its precision, its adapters, and proof that engine and learner agree."""

from __future__ import annotations

import asyncio
import copy
import ctypes
import os
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import Ints
from sojourn.engine import SamplingParams
from sojourn.engine.adapters import activated
from sojourn.engine.attention import plain, windows_of
from sojourn.engine.worker import compute
from sojourn.learner.batch import TreeBatch, build
from sojourn.learner.micro import Micro
from sojourn.store.machine import physical_cores
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.weights import Lora, add_adapters, base, load, split

if TYPE_CHECKING:
    from sojourn.training.trainer import Trainer


class Model(Protocol):
    """A model and its tokenizer (`sojourn.models.LoadedModel`)."""

    @property
    def model(self) -> PreTrainedModel: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


class Prepared(NamedTuple):
    """What a role plays and learns with.  adapter, reference_adapter: as in `Learner`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: str | None
    reference: PreTrainedModel | None
    reference_adapter: str | None = None


def prepare(config: TrainConfig, experiment: Experiment, loaded: Model | None = None, adapter: str | None = None) -> Prepared:
    """Load the model that the config names (or take `loaded`, adapters of others perhaps included), and a reference if the experiment
    wants one.  `adapter` is put on the model, if it is given; then its frozen reference is the same model without it."""
    use_machine()
    if loaded is None and Path(split(config.model)[0]).resolve() == Path(config.run).resolve():
        raise ValueError(f"run '{config.run}' cannot begin with its own weights: choose another run folder, or another model")
    found = loaded or load(config.model)
    model = found.model
    model.to(dtype=precision(config.dtype))  # type: ignore[arg-type, call-arg, unused-ignore]
    kind = experiment.reference.kind
    if adapter:
        add_adapters(model, Lora.of(vars(config)), config.seed, adapter)
    if config.teacher and kind != "none":
        taught = teacher(config.teacher, found.tokenizer, model.dtype).requires_grad_(False)
        return Prepared(model, found.tokenizer, adapter, taught)
    if kind == "none" or (adapter and kind == "frozen"):
        return Prepared(model, found.tokenizer, adapter, None if kind == "none" else model, "")
    first = copy.deepcopy(model).requires_grad_(False)
    if kind == "average":
        first = first.float()  # small steps towards the policy would be lost in bfloat16
    return Prepared(model, found.tokenizer, adapter, first, adapter)


def teacher(name: str, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> PreTrainedModel:
    """The model that `name` says.  Raises `ValueError` if it counts tokens differently than `tokenizer`."""
    found = load(name)
    if found.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"teacher '{name}' ({base(name)}) has another tokenizer than the policy, so it cannot score the policy's tokens: choose one "
            "of the same family"
        )
    found.model.to(dtype=dtype)  # type: ignore[arg-type, call-arg, unused-ignore]
    return found.model


def precision(choice: str) -> torch.dtype:
    """float32, or bfloat16 where it is asked for or the CPU multiplies it in hardware."""
    if choice == "auto":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[choice]


def use_machine() -> None:
    """Compute on all physical cores, unless OMP_NUM_THREADS says otherwise, and keep freed memory."""
    keep_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cores())


def keep_memory() -> None:
    """Tell glibc to keep freed memory: giving large blocks back and faulting them in again costs a third of a CPU step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3
            libc.mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes
            libc.mallopt(trim_threshold, 2**31 - 1)


MOST_CHECKED = 512
"""Tokens of the path that `check_contract` runs at most: a longer sliding window is not seen to slide."""


def check_contract(trainer: Trainer, tolerance: float | None = None) -> float:
    """Sample a path, let the learner score it, and the model with the attention that `transformers` ships for it: the largest difference
    of log-probabilities.

    Engine and learner share our attention, so that they agree says nothing of whether both are right; the model's own does.  The path is
    longer than the model's sliding window where the context allows.

    Raises `ValueError` if a difference is beyond `tolerance` (1e-3 in float32, 0.5 in bfloat16), or its mean beyond two fifths of it: then
    this model does not run as we think, and training would be off-policy without anybody knowing.  A bfloat16 logit of 16 to 32 is known to
    0.06 only, so rounding alone moves single tokens by up to four times that and more.
    """
    from sojourn.core import Kind, Span, TrajectoryTree

    temperature = trainer.config.temperature
    text = trainer.tokenizer.encode("Once upon a time, there was a")
    longest = max(len(text), *(8 + (window or 0) for window in windows_of(trainer.model)))
    length = min(longest, MOST_CHECKED, trainer.engine.max_context // 2)
    prompt = np.resize(np.asarray(text, np.int64), length)
    params = SamplingParams(max_tokens=16, temperature=temperature, adapter=trainer.lead.adapter)
    completion = asyncio.run(trainer.engine.sample(prompt, params))
    tree = TrajectoryTree()
    root = tree.add(Span(-1, prompt, Kind.OBSERVATION))
    span = tree.add(Span(root, completion.tokens, Kind.ACTION))
    batch = build([(tree, span, np.arange(len(completion.tokens)))])
    said = {
        "engine": completion.logprobs,
        "learner": compute(lambda: _learner_logp(trainer, batch, temperature)),
        "transformers": compute(lambda: _eager_logp(trainer, tree.tokens(span), temperature)[length - 1 :]),
    }
    limit = tolerance or (1e-3 if trainer.model.dtype == torch.float32 else 0.5)
    worst = 0.0
    for one, other in combinations(said, 2):
        gaps = np.abs(said[one] - said[other])
        gap, mean = float(gaps.max()), float(gaps.mean())
        worst = max(worst, gap)
        if gap > limit or mean > 0.4 * limit:
            raise ValueError(
                f"{one} and {other} disagree by {gap:.4f} on the log-probability of a token (allowed: {limit}) and by {mean:.4f} on average "
                f"(allowed: {0.4 * limit:g}); "
                f"the model type '{trainer.model.config.model_type}' is not run faithfully: please report it"
            )
    return worst


def _learner_logp(trainer: Trainer, batch: TreeBatch, temperature: float) -> NDArray[np.float32]:
    with torch.no_grad():
        logp: NDArray[np.float32] = trainer.learning.learner.score(Micro(batch, temperature))[0].numpy()
    return logp[np.argsort(batch.row)]


def _eager_logp(trainer: Trainer, tokens: Ints, temperature: float) -> NDArray[np.float32]:
    """Log-probability of each token but the first, by the model as `transformers` runs it."""
    ids, model = torch.from_numpy(tokens)[None], trainer.model
    with torch.no_grad(), plain(model), activated(model, trainer.lead.adapter):
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    logp: NDArray[np.float32] = (logits / temperature).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].numpy()
    return logp
