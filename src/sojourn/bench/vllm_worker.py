"""A process that decodes with vLLM's CPU build: `PYTHON vllm_worker.py FOLDER DTYPE`, where PYTHON is that of vLLM's own environment.

Once the model is loaded it says {"ready": true}; then it answers each line {"prompts": [[ids]], "tokens": n} with {"times": [[s]]}, when each
token of each row was there.
It imports nothing of ours, because its environment has nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(folder: str, dtype: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM logs to stdout, where the answers go
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found, import-untyped, unused-ignore]

    llm = LLM(folder, dtype=dtype, max_num_seqs=128, max_model_len=1024, enable_prefix_caching=False)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        params = SamplingParams(temperature=1.0, max_tokens=asked["tokens"], ignore_eos=True, detokenize=False)
        times: dict[str, list[float]] = {str(row): [] for row in range(len(asked["prompts"]))}
        for row, ids in zip(times, asked["prompts"], strict=True):
            llm.llm_engine.add_request(row, {"prompt_token_ids": ids}, params)
        while llm.llm_engine.has_unfinished_requests():
            for each in llm.llm_engine.step():
                sampled = times[each.request_id]
                sampled += [time.perf_counter()] * (len(each.outputs[0].token_ids) - len(sampled))
        print(json.dumps({"times": list(times.values())}), file=answers)


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main(*sys.argv[1:])
