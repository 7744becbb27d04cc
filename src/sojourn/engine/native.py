"""Kernels in C for a CPU, compiled where there is a compiler.

torch has no fused operation for most of what a model does between its products, and what it has is made for long rows.
`kernels.c` is compiled once for each precision and processor and kept in the cache folder; it runs in the threads that torch has.
Without a compiler torch's operations do the same, slower.  `SOJOURN_NATIVE=0` turns it off.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sojourn.models import cache_folder

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = (
    *("-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math"),  # sums may be added in any order
)
MOST_HEADS, WIDEST_HEAD = 16, 256
"""Those that `attend` has room for."""
BAND = 64
"""Rows whose parts of a weight's gradient `norm_back` adds up."""
PANEL_BYTES = 512 * 1024
"""Of a weight's columns that `multiply` reads again for each of its tiles: so many stay in a core's cache."""


class Kernels:
    """The kernels for one precision; see `kernels.c`.  Tensors are of that precision and on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        memory, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        kinds = {
            "norm": [*[memory] * 3, *[number] * 2, real],
            "norm_back": [*[memory] * 5, *[number] * 2, real],
            "gate": [*[memory] * 3, *[number] * 3],
            "gate_back": [*[memory] * 5, *[number] * 2],
            "rotate": [*[memory] * 3, *[number] * 4],
            "store": [*[memory] * 4, *[number] * 6],
            "attend": [*[memory] * 8, *[number] * 6, real],
            "attend_shared": [*[memory] * 6, *[number] * 6, real],
            "draw": [*[memory] * 4, *[number] * 2],
        }
        library.panel.restype = number
        self._panel: int = library.panel()
        if self._panel:
            kinds |= {"pack": [*[memory] * 2, *[number] * 2], "multiply": [*[memory] * 5, *[number] * 3]}
        for name, kind in kinds.items():
            getattr(library, name).argtypes, getattr(library, name).restype = kind, None
        self._library = library

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x (..., width) over the root of its mean square, times `weight`."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._library.norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // x.shape[-1], x.shape[-1], eps)
        return out

    def norm_back(self, x: Tensor, weight: Tensor, d_out: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The gradients of `x` and `weight`, given that of the norm; x and d_out are contiguous."""
        width, d_x = x.shape[-1], torch.empty_like(x)
        rows = x.numel() // width
        parts = torch.empty(-(-rows // BAND), width, dtype=torch.float32)
        memory = [each.data_ptr() for each in (x, weight, d_out, d_x, parts)]
        self._library.norm_back(*memory, rows, width, eps)
        return d_x, parts.sum(0).to(weight.dtype)

    def gate(self, x: Tensor, other: Tensor) -> Tensor:
        """silu(x) * other, both (rows, width); rows may lie apart, equally far in both."""
        out = x.new_empty(x.shape)
        self._library.gate(x.data_ptr(), other.data_ptr(), out.data_ptr(), *x.shape, x.stride(0))
        return out

    def gate_back(self, x: Tensor, other: Tensor, d_out: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of both, given that of the gate; all are contiguous."""
        d_x, d_other = torch.empty_like(x), torch.empty_like(x)
        self._library.gate_back(*(each.data_ptr() for each in (x, other, d_out, d_x, d_other)), *x.shape)
        return d_x, d_other

    def rotate(self, x: Tensor, cosine: Tensor, sine: Tensor) -> None:
        """Rotate x (rows, heads, dim) in place by angles (rows, dim); only rows may lie apart."""
        rows, heads, dim = x.shape
        self._library.rotate(x.data_ptr(), cosine.data_ptr(), sine.data_ptr(), rows, heads, dim, x.stride(0))

    def store(self, x: Tensor, cache: Tensor, slot: Tensor, at: Tensor) -> None:
        """Write x (heads, rows, dim) into cache (slots, heads, capacity, dim), row by row at `at` of its slot; only a head's numbers must
        lie together."""
        heads, rows, dim = x.shape
        memory = [each.data_ptr() for each in (x, cache, slot, at)]
        self._library.store(*memory, rows, heads, dim, x.stride(1), x.stride(0), cache.shape[2])

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, slot: Tensor, start: Tensor, stop: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Each row over keys and values [start, stop) of its slot.

        query: (rows, kv_heads, group, dim).  keys, values: (slots, kv_heads, capacity, dim).
        Returns (rows, kv_heads, group, dim) and the log of the softmax denominator, (rows, kv_heads, group).
        """
        rows, kv_heads, group, dim = query.shape
        query = self._heads(query)
        out = query.new_empty(query.shape)
        lse = torch.empty(rows, kv_heads, group, dtype=torch.float32)
        memory = [each.data_ptr() for each in (query, keys, values, slot, start, stop, out, lse)]
        self._library.attend(*memory, rows, kv_heads, group, dim, query.stride(0), keys.shape[2], scale)
        return out, lse

    def attend_shared(
        self, query: Tensor, keys: Tensor, values: Tensor, flat: Tensor, out: Tensor, lse: Tensor, scale: float
    ) -> None:
        """The rows `flat` of `query` over keys and values (kv_heads, length, dim), joined to what `out` and `lse` hold of them; those are
        what `attend` returns."""
        _, kv_heads, group, dim = query.shape
        query = self._heads(query)
        memory = [each.data_ptr() for each in (query, keys, values, flat, out, lse)]
        self._library.attend_shared(*memory, len(flat), kv_heads, group, dim, query.stride(0), keys.shape[1], scale)

    @staticmethod
    def _heads(query: Tensor) -> Tensor:
        """query (rows, kv_heads, group, dim) so that only rows may lie apart."""
        _, _, group, dim = query.shape
        return query if query.stride()[1:] == (group * dim, dim, 1) else query.contiguous()

    def draw(self, logits: Tensor, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
        """See `sampling.sample`."""
        uniform = torch.tensor(uniforms, dtype=torch.float64)
        token, logp = torch.empty(len(logits), dtype=torch.long), torch.empty(len(logits), dtype=torch.float32)
        memory = [each.data_ptr() for each in (logits, uniform, token, logp)]
        self._library.draw(*memory, *logits.shape)
        return token, logp

    def packs(self, weight: Tensor) -> bool:
        """Whether `multiply` is there for this processor and such a weight (columns, width)."""
        size = weight.shape[1] * weight.element_size()
        return self._panel > 0 and size % 4 == 0 and size * self._panel <= PANEL_BYTES

    def pack(self, weight: Tensor) -> Tensor:
        """A weight (columns, width) as `multiply` wants it."""
        weight, columns = weight.contiguous(), len(weight)
        panels = weight.new_empty(-(-columns // self._panel) * self._panel * weight.shape[1])
        self._library.pack(weight.data_ptr(), panels.data_ptr(), *weight.shape)
        return panels

    def multiply(self, x: Tensor, panels: Tensor, columns: int, bias: Tensor | None, other: Tensor | None = None) -> Tensor:
        """x (..., width) times a packed weight of so many columns, plus `bias` (columns,) and `other` (..., columns)."""
        x, width = x.contiguous(), x.shape[-1]
        out = x.new_empty(*x.shape[:-1], columns)
        memory = [None if each is None else each.data_ptr() for each in (x, panels, bias, other, out)]
        self._library.multiply(*memory, x.numel() // width, width, columns)
        return out


def fits(group: int, dim: int) -> bool:
    """Whether `Kernels.attend` takes so many heads that share a key head, of this size."""
    return group <= MOST_HEADS and dim <= WIDEST_HEAD


@cache
def kernels(dtype: torch.dtype) -> Kernels | None:
    """For this precision; None where they cannot be had."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if os.environ.get("SOJOURN_NATIVE") == "0" or compiler is None or dtype not in (torch.float32, torch.bfloat16):
        return None
    try:
        return Kernels(ctypes.CDLL(str(_compiled(compiler, dtype))))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(compiler: str, dtype: torch.dtype) -> Path:
    """The library, made if it is not there.  It is linked without OpenMP, which torch has loaded, so that there is one pool of threads."""
    options = [*FLAGS, *(["-DBF16"] if dtype == torch.bfloat16 else [])]
    found = [compiler, *options, torch.__version__, _processor(), SOURCE.read_text()]
    path = cache_folder() / f"kernels-{hashlib.sha256('|'.join(found).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            compiled, linked = f"{folder}/kernels.o", f"{folder}/kernels.so"
            for command in ([*options, "-c", str(SOURCE), "-o", compiled], ["-shared", compiled, "-lm", "-o", linked]):
                subprocess.run([compiler, *command], check=True, capture_output=True, timeout=120)
            Path(linked).replace(path)
    return path


def _processor() -> str:
    """What it can do: a library made on one machine may not run on another that shares the folder."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    return next((line for line in lines if line.startswith("flags")), platform.processor())
