"""Read a GGUF file: its metadata as plain Python values, its tensors as float32.

GGUF is the file format of llama.cpp.  The reader of the package `gguf` is not used, because it spends seconds on a vocabulary (it
keeps every string as array views); the dequantisation is the package's.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quant_shape_to_byte_shape

_NUMBER = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int


class GgufFile:
    """A GGUF file held in memory.

    fields: the metadata, such as `{"general.architecture": "llama", "tokenizer.ggml.tokens": [...], ...}`.
    Raises `ValueError` if the bytes are not GGUF of version 2 or 3.
    """

    def __init__(self, data: bytes) -> None:
        cursor = _Cursor(data)
        magic, version = cursor.take("4s"), cursor.take("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"expected a GGUF file of version 2 or 3, found magic {magic!r} and version {version}")
        tensors, fields = cursor.take("Q"), cursor.take("Q")
        self.fields: dict[str, Any] = {}
        for _ in range(fields):
            name = cursor.string()
            self.fields[name] = cursor.value(cursor.take("I"))
        self._tensors = dict(cursor.tensor_info() for _ in range(tensors))
        alignment = self.fields.get("general.alignment", _ALIGNMENT)
        self._start = -(-cursor.at // alignment) * alignment
        self._data = data

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the order of the file."""
        return list(self._tensors)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor in float32, shape in torch's order (rows first)."""
        info = self._tensors[name]
        shape = quant_shape_to_byte_shape(info.shape, info.kind) if info.kind not in _PLAIN else info.shape
        dtype = np.dtype(_PLAIN.get(info.kind, np.uint8))
        raw = np.frombuffer(self._data, dtype, count=int(np.prod(shape)), offset=self._start + info.offset)
        return torch.from_numpy(np.array(dequantize(raw.reshape(shape), info.kind), dtype=np.float32, copy=True))


_PLAIN = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}


class _Cursor:
    """A place in the header, moved on by each read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, count = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(count)]
        return self.take(_NUMBER[kind])

    def tensor_info(self) -> tuple[str, _TensorInfo]:
        name = self.string()
        shape = tuple(self.take("Q") for _ in range(self.take("I")))[::-1]
        return name, _TensorInfo(shape, GGMLQuantizationType(self.take("I")), self.take("Q"))
