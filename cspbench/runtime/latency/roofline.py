"""Roofline: the time of a step beside the time that reading its weights takes at this machine's bandwidth."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cspbench.hyper import Frozen
from cspbench.result import Latency
from cspbench.runtime import extension

LARGE = 256 * 2**20
"""Bytes of a buffer that fits no cache."""

SMALLEST = 64 * 2**10
SECONDS = 0.15
"""Seconds for which each buffer is read over and over."""


class Bandwidth(Frozen):
    """Read bandwidth of one thread.

    Attributes:
        bytes: size of the buffer that was read over and over.
        gb_per_s: 10^9 bytes a second, the best of all patterns and repetitions.
        how: code that read it.
    """

    bytes: int
    gb_per_s: float
    how: str


class Roof(Frozen):
    """One engine under the roofline.

    Attributes:
        step_bytes: bytes of weights that a step reads, counted.
        weight_bytes: bytes of all its weights; between two steps they stay in whichever cache holds so many.
        bandwidth: measured on a buffer of that size.
        bound_ms: time in which that bandwidth reads the step's bytes.
        step_ms: median of the measured step, feature extraction and search included.
        achieved: `bound_ms` over `step_ms`: 1 is as fast as the machine can read.
        memory_bound_ms: the same bytes at the bandwidth of main memory: the bound of a step that finds all caches cold.
    """

    step_bytes: float
    weight_bytes: int
    bandwidth: Bandwidth
    bound_ms: float
    step_ms: float
    achieved: float
    memory_bound_ms: float


def read_bandwidth(size: int) -> Bandwidth:
    """Measure how fast one thread reads a buffer of `size` bytes again and again."""
    if extension.available():
        from cspbench.runtime import _native

        return Bandwidth(bytes=size, gb_per_s=_native.read_bandwidth(size, SECONDS) / 1e9, how="native code")
    buffer = np.ones(max(1, size // 8))
    best = min(_read_once(buffer) for _ in range(_repeats(buffer)))
    return Bandwidth(bytes=size, gb_per_s=buffer.nbytes / best / 1e9, how="numpy dot product: a lower bound")


def roofline(engines: Mapping[str, Latency]) -> dict[str, Any]:
    """Put every engine under the roof of this machine: its `Roof` by name, and main memory's bandwidth beside them."""
    main = read_bandwidth(LARGE)
    roofs = {}
    for name, engine in engines.items():
        if engine.memory is not None and engine.step_bytes is not None:
            roofs[name] = _roof(engine, engine.step_bytes, engine.memory.weights, main).model_dump(mode="json")
    return {"main_memory": main.model_dump(mode="json"), "engines": roofs}


def _roof(engine: Latency, step_bytes: float, weights: int, main: Bandwidth) -> Roof:
    near = read_bandwidth(max(SMALLEST, weights))
    bound = step_bytes / near.gb_per_s / 1e6
    return Roof(
        step_bytes=step_bytes,
        weight_bytes=weights,
        bandwidth=near,
        bound_ms=bound,
        step_ms=engine.median_ms,
        achieved=bound / engine.median_ms,
        memory_bound_ms=step_bytes / main.gb_per_s / 1e6,
    )


def _read_once(buffer: np.ndarray) -> float:
    began = time.perf_counter()
    np.dot(buffer, buffer)
    return time.perf_counter() - began


def _repeats(buffer: np.ndarray) -> int:
    _read_once(buffer)  # the first reading pays for the pages
    return max(3, round(SECONDS / max(_read_once(buffer), 1e-7)))
