"""`sojourn export`: what transformers and peft read from the directory is the trained policy, with its template and its ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from sojourn.training import weights

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
ASKED = torch.tensor([[72, 105, 44, 32, 116]])


@pytest.fixture(params=[0, 2], ids=["all weights", "adapters"])
def run(request: pytest.FixtureRequest, sojourn: Any, tiny_model: str) -> int:
    """A run with a learning rate that moves the weights far; returns its rank."""
    Path("rows.jsonl").write_text(json.dumps(ROW) + "\n")
    numbers = {
        "steps": 2,
        "groups": 1,
        "dtype": "float32",
        "lora-rank": request.param,
        "optimizer.learning-rate": 0.05,
        "run": "run",
    }
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    code, _, err = sojourn("train", "sft", "--data", "rows.jsonl", "--model", tiny_model, *options)
    assert code == 0, err
    return int(request.param)


@pytest.mark.parametrize("merge", [False, True], ids=["", "merge"])
def test_others_read_the_trained_policy(sojourn: Any, run: int, merge: bool, tiny_model: str) -> None:
    code, out, err = sojourn("export", "run", "out", *(["--merge"] if merge else []))
    assert code == 0, err
    assert "read again" in out
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    if run and not merge:
        assert not Path("out/model.safetensors").exists()
        read = PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(tiny_model), "out")
    else:
        read = transformers.AutoModelForCausalLM.from_pretrained("out")
    with torch.no_grad():
        expected = weights.load("run").model(ASKED).logits
        assert torch.allclose(read(ASKED).logits, expected, atol=1e-4)
        assert not torch.allclose(base(ASKED).logits, expected, atol=1e-2), "the run moved the weights"
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    assert tokenizer.chat_template == transformers.AutoTokenizer.from_pretrained(tiny_model).chat_template
    ends = transformers.GenerationConfig.from_pretrained("out").eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in (ends if isinstance(ends, list) else [ends])
    card = Path("out/README.md").read_text()
    assert "- Data: rows.jsonl" in card and "- Algorithm: sft" in card and "Licence of the base: not known" in card


def test_what_cannot_be_exported_is_told(sojourn: Any, tiny_model: str) -> None:
    assert "is no run folder" in sojourn("export", tiny_model, "out")[2]
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"run": "run", "model": tiny_model, "lora_rank": 0, "seed": 0}))
    assert "a run without a checkpoint yet" in sojourn("export", "run", "out")[2]
    Path("full").mkdir()
    Path("full/file").write_text("")
    assert "is not empty" in sojourn("export", "run", "full")[2]
