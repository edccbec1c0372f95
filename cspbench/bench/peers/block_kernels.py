"""Products of a matrix whose zeros fill blocks: our ``block`` format, and libraries with the kernels of others.

A library is called ``NAME.BLOCK.PRECISION.so``, such as ``lyra.4x4.fp32.so``, and offers the functions that
``codecs/block_kernel.h`` declares; ``codecs/README.md`` says how those of speech codecs are built.
"""

from __future__ import annotations

import ctypes
import re
import weakref
from pathlib import Path
from typing import Any, cast

import numpy as np

from cspbench.bench.peers.engine import AbsentError, Contestant, Evict, Precision, StepEngine
from cspbench.bench.peers.workload import BLOCK_WORKS, Kind, Work, block_of
from cspbench.errors import ConfigError
from cspbench.runtime import extension

NAME = re.compile(r"(\w+)\.(4x4|8x4)\.(fp32|int8)\.so")
EACH = {"fp32": 4, "int8": 1}
ALIGNED = 64
"""Bytes at a multiple of which inputs and outputs begin."""

POINTER, INT = ctypes.c_void_p, ctypes.c_int
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "block_pack": (POINTER, [POINTER, INT, INT]),
    "block_multiply": (None, [POINTER] * 3),
    "block_release": (None, [POINTER]),
    "block_time": (None, [POINTER, POINTER, POINTER, INT, POINTER]),
}


class LibraryProduct(StepEngine):
    """A product in a library; the library times it, so that no call from Python is part of it."""

    def __init__(self, work: Work, library: ctypes.CDLL, setting: str, precision: Precision) -> None:
        weight = np.ascontiguousarray(work.layers[0].weight)
        self.library, self.inputs, self.setting = library, work.inputs, setting
        self.bytes = EACH[precision] * work.nonzeros
        self.x, self.y = _aligned(weight.shape[1]), _aligned(len(weight))
        self.matrix = library.block_pack(weight.ctypes.data, *weight.shape)
        if not self.matrix:
            raise AbsentError(f"the kernel holds no matrix of {weight.shape[0]} x {weight.shape[1]}")
        weakref.finalize(self, library.block_release, self.matrix)

    def outputs(self) -> np.ndarray:
        return np.stack([self._output(x) for x in self.inputs])

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        self.x[:] = self.inputs[0]
        if evict is None:
            return self._times(steps)
        found = []
        for _ in range(steps):
            evict()
            found += self._times(1)
        return found

    def _output(self, x: np.ndarray) -> np.ndarray:
        self.x[:] = x
        self.library.block_multiply(self.matrix, self.x.ctypes.data, self.y.ctypes.data)
        return self.y.copy()

    def _times(self, steps: int) -> list[float]:
        seconds = np.zeros(steps)
        self.library.block_time(self.matrix, self.x.ctypes.data, self.y.ctypes.data, steps, seconds.ctypes.data)
        return seconds.tolist()


class PackedProduct(StepEngine):
    """A product in our ``block`` format, timed natively, with the preparation of its input."""

    def __init__(self, work: Work, precision: Precision) -> None:
        try:
            module = extension.require("this engine")
        except extension.NativeError as error:
            raise AbsentError(str(error)) from error
        self.matrix = module.Matrix.pack(work.layers[0].weight, "block", precision, block=block_of(work.kind))
        self.inputs, self.bytes = work.inputs, self.matrix.bytes
        self.setting = f"block:{work.kind}; {module.current()}"

    def outputs(self) -> np.ndarray:
        return self.matrix.multiply(self.inputs)

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        return self.matrix.time(self.inputs[0], steps, evict.bytes if evict else 0).tolist()


def contestants(folder: Path) -> list[Contestant]:
    """The libraries in a folder.

    Raises:
        ConfigError: there is none, one of another name, or one that cannot be loaded or lacks a function.
    """
    paths = sorted(folder.glob("*.so"))
    if not paths:
        raise ConfigError(f"{folder} holds no library NAME.BLOCK.PRECISION.so, such as lyra.4x4.fp32.so")
    return [_contestant(path) for path in paths]


def _contestant(path: Path) -> Contestant:
    if not (found := NAME.fullmatch(path.name)):
        raise ConfigError(f"{path} is not called NAME.BLOCK.PRECISION.so, such as lyra.4x4.fp32.so or opus.8x4.int8.so")
    kind, precision, library = cast("Kind", found[2]), cast("Precision", found[3]), _load(path)
    return Contestant(
        found[1],
        precision,
        lambda work: LibraryProduct(work, library, f"{path.name}, timed in C", precision),
        kind=kind,
    )


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be loaded: {error}") from error
    for name, (result, arguments) in FUNCTIONS.items():
        if not hasattr(library, name):
            raise ConfigError(f"{path} has no function {name}; cspbench/bench/peers/codecs/block_kernel.h declares all")
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _aligned(size: int) -> np.ndarray:
    """Zeros (size,), float32, at a multiple of `ALIGNED` bytes."""
    raw = np.zeros(4 * size + ALIGNED, np.uint8)
    start = -raw.ctypes.data % ALIGNED
    return raw[start : start + 4 * size].view(np.float32)


def _ours(precision: Precision, kind: Kind) -> Contestant:
    return Contestant(f"ours_{precision}", precision, lambda work: PackedProduct(work, precision), ours=True, kind=kind)


_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
CONTESTANTS = [_ours(precision, work.kind) for work in BLOCK_WORKS for precision in _PRECISIONS]
