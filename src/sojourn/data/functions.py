"""A function in a user's own Python file, named as FILE.py:function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def load_function(name: str) -> Callable[..., Any]:
    """The function that `name`, FILE.py:function, says.  The file may import what lies beside it.

    Raises `ValueError` if there is no such file, if it cannot be loaded, or if it has no such function.
    """
    place, _, wanted = name.rpartition(":")
    path = Path(place).expanduser()
    if not place or path.suffix != ".py":
        raise ValueError(f"found '{name}', expected FILE.py:function")
    if not path.is_file():
        raise ValueError(f"'{name}': there is no file {path.resolve()}")
    module = _load(path.resolve())
    found = getattr(module, wanted, None)
    if not callable(found):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        near = get_close_matches(wanted, known, 1) or known
        raise ValueError(f"'{name}': {path} has no function '{wanted}'" + (f"; it has {', '.join(near)}" if near else ""))
    function: Callable[..., Any] = found
    return function


def _load(path: Path) -> Any:
    """The file as a module under a name of its own, once: two functions of one file share its state."""
    name = f"{path.stem}_{blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = spec_from_file_location(name, path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module
