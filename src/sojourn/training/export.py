"""A run's policy as a directory that `transformers`, `peft` and servers open.

The one idea: what is written is read again by the library that users will read it with, and must say the same as the weights that were
trained, token for token, before the export counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.models.known import KNOWN
from sojourn.models.load import find
from sojourn.rendering import ChatRenderer, PlainText
from sojourn.store import RunFolder
from sojourn.training import weights

PROMPT, TOKENS = "Once upon a time, there was a", 16


def export(run: str, folder: Path, *, merge: bool = False, role: str = "") -> Path:
    """Write the policy of a run's last checkpoint into `folder`: all weights, or of a run with adapters those, unless `merge`.

    role: whose, of a run with several; `NAME@STEP` for a former self.  The one that the run leads with if nothing is said.
    Beside them the tokenizer with its chat template, a generation config whose ends are the template's, and a model card.
    Raises `ValueError` if that is no run, it has no checkpoint, the folder is in use, or what was written says something else.
    """
    config, name = weights.run_config(run), f"{run}:{role}" if role else run
    origin = weights.origin(name) if config is not None else None
    if config is None or origin is None:
        raise ValueError(f"'{run}' is no run folder: export takes a run")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder {folder} is not empty: choose another")
    adapter = origin.rank > 0 and not merge
    base = _base(origin.model) if adapter else ""
    found = weights.load(name)
    folder.mkdir(parents=True, exist_ok=True)
    if adapter:
        _write_adapter(name, origin, base, folder)
    else:
        found.model.save_pretrained(folder)
    found.tokenizer.save_pretrained(folder)
    _ends(found.model, found.tokenizer).save_pretrained(folder)
    text = card(RunFolder(weights.run_folder(run)), config, model=origin.model, role=role, adapter=adapter)
    (folder / "README.md").write_text(text, encoding="utf-8")
    _compare(found.model, _read(folder, base), found.tokenizer, folder)
    return folder


def card(run: RunFolder, config: dict[str, Any], *, model: str = "", role: str = "", adapter: bool = False) -> str:
    """The model card: base, licence, how it was trained and on what, and how it was measured.  What is not known is said so.

    model: what the weights stand on, where it is not the config's.  role: whose they are.
    """
    base = weights.base(model or config["model"])
    licence = next((known.licence for name, known in KNOWN.items() if base.lower() in (name, known.hub.lower())), None)
    head = ["---", f"base_model: {base}", f"library_name: {'peft' if adapter else 'transformers'}", "tags: [sojourn]", "---"]
    data = run.path / "data.json"
    learned = config.get("algorithm") or "the recipe's own credit and objective"
    paid = ", ".join(config.get("reward") or ()) or "see the recipe in the run folder"
    facts = {
        "Base": base,
        "Licence of the base": licence or "not known here: see the base model",
        **({"Role": role} if role else {}),
        "Algorithm": learned,
        "Data": config.get("data") or config.get("learn_from") or "sampled in the recipe's world",
        "Reward": "none: it imitates the data" if data.exists() else paid,
        "Steps": str(run.summary().get("steps", len(run.metrics()))),
        "Seed": str(config["seed"]),
    }
    rows = [f"| {r['eval']} | {r['mode']} | {r['level']} | {r['success']:.3f} | {r['tasks']} |" for r in run.evals()]
    table = (
        ["| when | sampling | level | success | tasks |", "|---|---|---|---|---|", *rows] if rows else ["It was not evaluated."]
    )
    listed = [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join([*head, "", f"# {run.path.name}", "", *listed, "", "## Evaluation", "", *table, ""])


def _base(name: str) -> str:
    """Where others find the weights that an adapter stands on."""
    if name == "tiny" or weights.origin(name) is not None:
        raise ValueError(
            f"the run began with '{name}', which no other library can load, so its adapter alone is no use: add --merge"
        )
    path, source = find(name)
    return source.removeprefix("hub ") if source.startswith("hub ") else str(path.resolve())


def _write_adapter(name: str, origin: weights.Origin, base: str, folder: Path) -> None:
    """In peft's form: its config, and the adapter's weights under its names."""
    model = weights.stands_on(name, origin).model
    lora: Any = model.peft_config["default"]
    lora.base_model_name_or_path, lora.task_type, lora.inference_mode = base, "CAUSAL_LM", True
    lora.save_pretrained(str(folder))
    named = {name: p.detach().contiguous() for name, p in model.named_parameters() if "lora_" in name}
    save_file(
        {f"base_model.model.{name.replace('.default', '')}": p for name, p in named.items()}, folder / "adapter_model.safetensors"
    )


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> transformers.GenerationConfig:
    """How others generate: with the ids that end a turn here."""
    ends = sorted(ChatRenderer(tokenizer, PlainText()).ends)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    return transformers.GenerationConfig(eos_token_id=ends, pad_token_id=pad, bos_token_id=model.config.bos_token_id)


def _read(folder: Path, base: str) -> torch.nn.Module:
    """What a user of the directory gets."""
    if not base:
        whole: torch.nn.Module = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return whole
    from peft import PeftModel

    under = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    both: torch.nn.Module = PeftModel.from_pretrained(under, str(folder))
    return both


def _compare(trained: torch.nn.Module, read: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise `ValueError` if the two say different things, greedily."""
    said = [_greedy(model, tokenizer) for model in (trained, read)]
    if said[0] != said[1]:
        raise ValueError(f"what was written to {folder} says {said[1]}, the run's policy says {said[0]}: please report it")


def _greedy(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The likeliest token, again and again: without a cache, so that nothing but the weights matters."""
    ids = list(tokenizer.encode(PROMPT))
    with torch.no_grad():
        for _ in range(TOKENS):
            ids.append(int(model.eval()(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-TOKENS:]
