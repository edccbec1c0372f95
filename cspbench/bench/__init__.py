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
    """What a benchmark found.

    Attributes:
        rows: one a measurement, with what was measured and how.
        ratios: flat name -> number, medians over paired runs.
        protocol: machine, threads, versions, and what the ratios mean.
    """

    rows: list[dict[str, Any]]
    ratios: dict[str, float]
    protocol: dict[str, Any] = field(default_factory=dict)


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call, `repeats` times: all take turns, so that what slows the machine slows all of them.

    Each is called once before, unmeasured.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of paired times."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


__all__ = ["Benchmark", "interleaved", "machine", "median_ratio"]
