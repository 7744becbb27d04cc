"""`sojourn train ALGORITHM --data FILE`, from the file to the loss: the first step's loss is a plain transformers computation's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sojourn import models
from sojourn.models import LoadedModel
from sojourn.store import RunFolder, read_episodes

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you."},
]
ASK = [{"role": "user", "content": "2 + 2?"}]
RIGHT, WRONG = [{"role": "assistant", "content": "4"}], [{"role": "assistant", "content": "Five, I think."}]

Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def train(sojourn: Any, tiny_model: str) -> Train:
    """Train on rows with a tiny model; returns the metrics, one row a step."""

    def run(algorithm: str, rows: list[dict[str, Any]], *options: str, steps: int = 2) -> list[dict[str, Any]]:
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sizes = ["--steps", str(steps), "--groups", str(len(rows)), "--dtype", "float32", "--run", "run"]
        code, _, err = sojourn("train", algorithm, "--data", "rows.jsonl", "--model", tiny_model, *sizes, *options)
        assert code == 0, err
        return RunFolder("run").metrics()

    return run


def logp_of(model: LoadedModel, text: str, trained: list[str]) -> torch.Tensor:
    """Log-probabilities of the tokens of the pieces `trained` in `text`, by the model as transformers ships it.  One token a byte."""
    ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        logp = model.model(ids).logits[0].log_softmax(-1)
    prefix = [len(model.tokenizer.encode(text[:at], add_special_tokens=False)) for at in range(len(text) + 1)]
    found, start = [], 0
    for piece in trained:
        at = text.index(piece, start)
        start = at + len(piece)
        places = torch.arange(prefix[at], prefix[start])
        found.append(logp[places - 1, ids[0, places]])
    return torch.cat(found)


def plain(tiny_model: str, messages: list[dict[str, str]]) -> torch.Tensor:
    """The same of what the assistant says in a conversation, with the token that ends its turn."""
    model = models.load(tiny_model)
    text = str(model.tokenizer.apply_chat_template(messages, tokenize=False))
    return logp_of(model, text, [f"{m['content']}<|im_end|>" for m in messages if m["role"] == "assistant"])


def test_sft_of_conversations(train: Train, tiny_model: str) -> None:
    first, second = train("sft", [{"messages": TALK}, {"prompt": ASK, "completion": RIGHT}])
    expected = -torch.cat([plain(tiny_model, TALK), plain(tiny_model, ASK + RIGHT)]).mean()
    assert first["loss"] == pytest.approx(float(expected), abs=1e-5)
    assert first["trained_tokens"] == len("Hello.See you.4") + 3
    assert second["loss"] < first["loss"]


def test_sft_of_texts_needs_no_template(train: Train, tiny_model: str) -> None:
    first, _ = train("sft", [{"prompt": "The sky is", "completion": " blue."}, {"text": "Water is wet."}])
    model = models.load(tiny_model)
    blue = logp_of(model, "The sky is blue.<|im_end|>", [" blue.<|im_end|>"])
    wet = logp_of(model, "Water is wet.<|im_end|>", ["ater is wet.<|im_end|>"])
    assert first["loss"] == pytest.approx(float(-torch.cat([blue, wet]).mean()), abs=1e-5)


def test_dpo_starts_at_log_2_and_prefers_the_chosen(train: Train, tiny_model: str) -> None:
    first, second = train("dpo", [{"prompt": ASK, "chosen": RIGHT, "rejected": WRONG}])
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["trained_tokens"] == len("4Five, I think.") + 2
    assert second["margin"] > 0


def test_simpo_is_its_formula(train: Train, tiny_model: str) -> None:
    first, _ = train("simpo", [{"prompt": ASK, "chosen": RIGHT, "rejected": WRONG}])
    good, bad = plain(tiny_model, ASK + RIGHT).mean(), plain(tiny_model, ASK + WRONG).mean()
    expected = -torch.nn.functional.logsigmoid(2.5 * (good - bad) - 1.375)
    assert first["loss"] == pytest.approx(float(expected), abs=1e-5)


def test_kto_starts_at_half_and_learns_both_verdicts(train: Train) -> None:
    rows = [{"prompt": ASK, "completion": RIGHT, "label": True}, {"prompt": TALK[:2], "completion": WRONG, "label": False}]
    first, second = train("kto", rows)
    assert first["loss"] == pytest.approx(0.5, abs=1e-5)
    assert second["loss"] < first["loss"]


def test_awr_weighs_answers_to_one_prompt_against_each_other(train: Train, tiny_model: str) -> None:
    """Rewards 1 and 0 of one prompt are half above and half below their mean: weights e^0.5 and e^-0.5."""
    rows = [{"prompt": ASK, "completion": RIGHT, "reward": 1.0}, {"prompt": ASK, "completion": WRONG, "reward": 0.0}]
    first, _ = train("awr", rows)
    good, bad = plain(tiny_model, ASK + RIGHT), plain(tiny_model, ASK + WRONG)
    tokens = len(good) + len(bad)
    expected = -(math.exp(0.5) * good.sum() + math.exp(-0.5) * bad.sum()) / tokens
    assert first["loss"] == pytest.approx(float(expected), abs=1e-5)


def test_grpo_samples_the_prompts_and_pays_with_the_user_s_function(train: Train, here: Path) -> None:
    Path("pay.py").write_text(
        "import asyncio\n"
        "async def short(completions, **kwargs):\n"
        "    await asyncio.sleep(0)\n"
        "    return [1.0 / (1 + len(c[0]['content'])) for c in completions]\n\n\n"
        "def right(prompts, completions, answer):\n"
        "    assert prompts[0][0]['role'] == 'user'\n"
        "    return [None if a == '?' else float(a in c[0]['content']) for c, a in zip(completions, answer, strict=True)]\n"
    )
    rows = [{"prompt": ASK, "answer": "4"}, {"prompt": [{"role": "user", "content": "Say it."}], "answer": "?"}]
    options = ["--reward", "pay.py:short", "pay.py:right", "--group-size", "3", "--max-tokens", "6"]
    train("grpo", rows, *options, steps=1)
    episodes = read_episodes("run")
    assert len(episodes) == 6
    assert {row["task"]: set(row["rewards"]) for row in episodes} == {"line 1": {"short", "right"}, "line 2": {"short"}}
    assert list(Path("run/code/step-000000").glob("pay_*.py")), "the functions are part of the run's code"


def test_rows_that_cannot_be_used_are_named_and_counted(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("sft", [{"messages": TALK}, {"prompt": ASK}, {"messages": ASK}], steps=1)
    told = json.loads(Path("run/data.json").read_text())
    assert (told["rows"], told["used"], told["kind"]) == (3, 1, "supervised")
    assert told["unusable"] == [
        "line 2: it has no 'completion'",
        "line 3: 'messages' has no assistant message, so there is nothing to learn",
    ]


def test_a_run_on_data_that_was_stopped_goes_on_as_if_it_had_not_been(train: Train) -> None:
    rows = [{"messages": TALK}, {"prompt": ASK, "completion": RIGHT}, {"prompt": ASK, "completion": WRONG}]
    whole = train("sft", rows, "--groups", "2", steps=4)
    Path("run").rename("whole")
    train("sft", rows, "--groups", "2", steps=2)
    again = train("sft", rows, "--groups", "2", steps=4)
    assert [row["loss"] for row in again] == [row["loss"] for row in whole]


def test_the_preview_shows_every_token_and_which_are_trained(sojourn: Any, tiny_model: str) -> None:
    Path("rows.jsonl").write_text(json.dumps({"prompt": ASK, "chosen": RIGHT, "rejected": WRONG}) + "\n{\n")
    code, out, err = sojourn("data", "preview", "rows.jsonl", "--model", tiny_model)
    assert code == 0, err
    assert out.splitlines()[1:] == [
        "line 1, answer 1 of 2, reward 1: 27 tokens, 2 trained",
        "  read   <|im_start|>user\\n2 + 2?<|im_end|>\\n<|im_start|>assistant\\n",
        "  TRAIN  4<|im_end|>",
        "line 1, answer 2 of 2, reward 0: 40 tokens, 15 trained",
        "  read   <|im_start|>user\\n2 + 2?<|im_end|>\\n<|im_start|>assistant\\n",
        "  TRAIN  Five, I think.<|im_end|>",
        "data rows.jsonl: 1 of 2 rows cannot be used:",
        "  line 2: it is no JSON (Expecting property name enclosed in double quotes: line 2 column 1 (char 2))",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft"], "say which with --data FILE"),
        (["sft", "--data", "gone.jsonl"], "there is no such file"),
        (["dpo", "--data", "rows.jsonl"], "found columns messages, expected prompt + chosen + rejected"),
        (["grpo", "--data", "rows.jsonl"], "--reward FILE.py:function"),
        (["sft", "--data", "rows.jsonl", "--reward", "pay.py:pay"], "drop --reward"),
        (["quickstart", "--learn-from", "rows.jsonl"], "answers teach it nothing"),
    ],
)
def test_what_is_missing_is_told_before_a_model_is_loaded(sojourn: Any, arguments: list[str], message: str) -> None:
    Path("rows.jsonl").write_text(json.dumps({"messages": TALK}) + "\n")
    code, _, err = sojourn("train", *arguments, "--model", "none-such")
    assert code == 2
    assert message in err
