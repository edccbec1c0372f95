"""Latency of any callable, by the protocol of the recognisers: interleaved in one process on pinned processors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cspbench.errors import ConfigError
from cspbench.hyper import Frozen
from cspbench.machine.cpu import check_threads, machine, without_collection
from cspbench.result import Interval, Noise, TimeRatio
from cspbench.runtime.latency import statistics
from cspbench.runtime.latency.measure import AGAIN, Place, judged, quiet_place
from cspbench.runtime.latency.noise import Watch
from cspbench.runtime.packing.cost import last_cache_bytes

Call = Callable[[], object]
FEWEST, MOST = 5, 1000
"""Calls of a block."""


class CallLatency(Frozen):
    """Latency of one callable.

    Attributes:
        median_ms: milliseconds a call.
        p95_ms: 95 % of the calls took at most so long.
        p99_ms: likewise.
        calls: that were measured.
        median: `median_ms` with its 95 % bootstrap interval over blocks.
    """

    median_ms: float
    p95_ms: float
    p99_ms: float
    calls: int
    median: Interval


class CallsMeasured(Frozen):
    """Callables measured interleaved in one process.

    Attributes:
        calls: by name.
        ratios: ``a/b`` -> time of a over that of b, median of paired blocks: b is so many times faster.
        noise: verdict on the measurement; the first callable takes part twice.
        protocol: processor, threads, blocks and calls.
    """

    calls: dict[str, CallLatency]
    ratios: dict[str, TimeRatio]
    noise: Noise
    protocol: dict[str, Any]


def latency(
    calls: Call | Mapping[str, Call],
    *,
    threads: int = 1,
    warmup: int = 1,
    repeats: int = 20,
    block_seconds: float = 0.02,
    cold: bool = False,
) -> CallsMeasured:
    """Measure how long callables take, interleaved, with the noise of the machine beside the numbers.

    Waits until no other cspbench measures on this machine; trainings of cspbench pause meanwhile. Call models under
    `torch.inference_mode` within the callables, as in use.

    Args:
        calls: a callable without arguments, or several by name; give slow ones first, so that ratios are speed-ups.
        threads: of torch and of processors that the process is pinned to.
        warmup: blocks of each callable that are not counted.
        repeats: blocks of each callable that are counted; who goes first rotates.
        block_seconds: a block is so many calls in a row as take about this long, 5 to 1,000.
        cold: read other memory before each call, untimed, until the caches hold nothing of it.

    Returns:
        Medians and tails in milliseconds, ratios, noise and protocol.

    Raises:
        ConfigError: no callable, or more threads than can run at a time.

    Example:
        >>> found = latency({"dense": lambda: model(x), "packed": lambda: packed(model)(x)})
        >>> found.ratios["dense/packed"].value
    """
    named = {"call": calls} if callable(calls) else dict(calls)
    if not named or repeats < 1 or warmup < 0:
        raise ConfigError("latency: give at least one callable, and at least one repetition of it")
    check_threads(threads)
    evict = np.ones(2 * last_cache_bytes() // 8) if cold else None
    with quiet_place(threads) as place:
        count = _calls_in(block_seconds, named, evict)
        blocks, watch = _blocks(named, count, warmup, repeats, evict, place)
        medians = {name: statistics.median([block * 1000 for block in own]) for name, own in blocks.items()}
        medians.pop(AGAIN)
        ratios, noise = judged(blocks, medians, watch, place, threads)
        protocol = machine() | {
            "processors": place.processors,
            "threads": threads,
            "warmup": warmup,
            "repeats": repeats,
            "calls_per_block": count,
            "caches": "cold" if cold else "as the call before left them",
            "interleaved": True,
            "garbage_collection": "off",
            "others_stepped_aside": place.reservation.undisturbed,
        }
    summaries = {name: _summary(blocks[name], median) for name, median in medians.items()}
    return CallsMeasured(calls=summaries, ratios=ratios, noise=noise, protocol=protocol)


def _calls_in(seconds: float, calls: Mapping[str, Call], evict: NDArray[np.float64] | None) -> int:
    """Calls that take the fastest callable so many seconds."""
    fastest = min(float(np.median(_block(call, FEWEST, evict))) for call in calls.values())
    return int(np.clip(round(seconds / max(fastest, 1e-9)), FEWEST, MOST))


def _blocks(
    calls: Mapping[str, Call],
    count: int,
    warmup: int,
    repeats: int,
    evict: NDArray[np.float64] | None,
    place: Place,
) -> tuple[dict[str, list[NDArray[np.float64]]], Watch]:
    """Seconds of the calls of each block, by name; the first callable takes part again as `AGAIN`."""
    contestants = [*calls.items(), (AGAIN, next(iter(calls.values())))]
    blocks: dict[str, list[NDArray[np.float64]]] = {name: [] for name, _ in contestants}
    watch = Watch(place.processors)
    with without_collection(), watch:
        for repeat in range(-warmup, repeats):
            first = repeat % len(contestants)
            for name, call in [*contestants[first:], *contestants[:first]]:
                times = _block(call, count, evict)
                if repeat >= 0:
                    blocks[name].append(times)
            watch.sample()
    return blocks, watch


def _block(call: Call, count: int, evict: NDArray[np.float64] | None) -> NDArray[np.float64]:
    times = np.empty(count)
    for index in range(count):
        if evict is not None:
            evict.sum()
        began = time.perf_counter()
        call()
        times[index] = time.perf_counter() - began
    return times


def _summary(blocks: list[NDArray[np.float64]], median: Interval) -> CallLatency:
    every = np.concatenate(blocks) * 1000
    middle, p95, p99 = (float(x) for x in np.quantile(every, (0.5, 0.95, 0.99)))
    return CallLatency(median_ms=middle, p95_ms=p95, p99_ms=p99, calls=len(every), median=median)
