"""An OpenAI-compatible gateway whose calls are recorded token for token and become training data.

Names are imported on first use: `sojourn.serve.client` needs no server library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sojourn.serve.client import Client
    from sojourn.serve.outside import Outside, Seat

_HOME = {"Client": "client", "Outside": "outside", "Seat": "outside"}

__all__ = ["Client", "Outside", "Seat"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sojourn.serve' has no attribute '{name}'")
    try:
        return getattr(import_module(f"sojourn.serve.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in ("starlette", "uvicorn"):
            raise ImportError(f"the gateway needs {error.name}: pip install 'sojourn[serve]'") from error
        raise
