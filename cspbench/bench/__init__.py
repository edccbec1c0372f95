"""Benchmarks: each module offers ``run(...) -> Benchmark``; ``cspbench bench NAME`` prints it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cspbench.machine.cpu import machine


@dataclass(frozen=True)
class Benchmark:
    """Outcome of a benchmark.

    Attributes:
        rows: one for each measurement.
        ratios: flat name -> number, medians over paired runs.
        protocol: machine, threads, versions, and the meaning of the ratios.
    """

    rows: list[dict[str, Any]]
    ratios: dict[str, float]
    protocol: dict[str, Any] = field(default_factory=dict)


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time every call `repeats` times, interleaved, so that whatever slows the machine slows all of them.

    Each is called once before, unmeasured.

    Returns:
        Name -> seconds of each call.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if round_:
                times[name].append(time.perf_counter() - began)
    return times


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of paired times."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


__all__ = ["Benchmark", "interleaved", "machine", "median_ratio"]
