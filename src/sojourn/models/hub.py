"""Ask the Hugging Face hub for a model's folder, and give up in seconds where there is no network."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_PROBE_S = 4.0


class NotOnHub(Exception):
    """The hub did not give the model; the message says why."""


def cached(repo: str) -> Path | None:
    """The model's folder in the hub's own cache, if its weights are there.  No network."""
    try:
        folder = Path(snapshot_download(repo, allow_patterns=_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def download(repo: str) -> Path:
    """The model's folder, downloaded into the hub's own cache.  Raises `NotOnHub` within seconds when there is no network."""
    _probe(repo)
    try:
        folder = Path(snapshot_download(repo, allow_patterns=_FILES))
    except Exception as error:  # whatever the network throws
        raise NotOnHub(f"the download broke off ({type(error).__name__}: {error})") from error
    if not any(folder.glob("*.safetensors")):
        raise NotOnHub("it has no safetensors weights")
    return folder


def _probe(repo: str) -> None:
    """Is the hub there, and has it the model?  In a thread of its own, because a name look-up without network can hang."""
    if constants.HF_HUB_OFFLINE:
        raise NotOnHub("not in its cache, and HF_HUB_OFFLINE is set")
    answer: Future[object] = Future()

    def ask() -> None:
        try:
            answer.set_result(HfApi().model_info(repo, timeout=_PROBE_S))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer.result(timeout=_PROBE_S)
    except GatedRepoError:
        raise NotOnHub("access is gated (accept its terms on the hub, then `hf auth login`)") from None
    except RepositoryNotFoundError:
        raise NotOnHub("no such repository") from None
    except HFValidationError:
        raise NotOnHub("not a repository name") from None
    except TimeoutError:
        raise NotOnHub(f"not in its cache, and it gave no answer in {_PROBE_S:g} s") from None
    except Exception as error:  # whatever the network throws
        raise NotOnHub(f"not in its cache, and not reachable ({type(error).__name__}: {error})") from None
