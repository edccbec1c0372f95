"""A step of our LSTM on one thread and on several, beside the time in which as many threads read its weights."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cspbench.bench import Benchmark, machine, median_ratio
from cspbench.bench.engines import CLAIMED, ZEROS, check_work
from cspbench.bench.peers.native import Packed
from cspbench.bench.peers.race import COUNTS
from cspbench.bench.peers.workload import SIZES, random_work
from cspbench.machine.cpu import check_threads, pinned, without_collection
from cspbench.machine.lock import measuring
from cspbench.runtime import extension

QUICK: dict[str, Any] = {"models": ("S",), "zeros": (0.9,), "rounds": 2}
"""Arguments of `run` that finish within seconds: to see that it works."""

READING_SECONDS = 0.1


def run(
    *,
    models: Sequence[str] = tuple(SIZES),
    zeros: Sequence[float] = ZEROS,
    threads: Sequence[int] = (1, 2),
    rounds: int = 7,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measure.

    Args:
        models: of `SIZES`.
        zeros: fractions of zeros among the weights.
        threads: numbers of threads that are allowed.
        rounds: measured rounds; every number of threads runs in each.
        progress: called with status lines.

    Returns:
        Rows by model, zeros, precision and threads; ratios of the time on the first number of threads to that on each
        other.

    Raises:
        ConfigError: an unknown size, a fraction of zeros outside [0, 1), more threads than can run at a time.
    """
    check_work(models, zeros, SIZES)
    for count in threads:
        check_threads(count)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with pinned(max(threads)) as processors, without_collection():
        for model, fraction, precision in itertools.product(models, zeros, CLAIMED):
            progress(f"{model}, {fraction:.2f} zeros, {precision}")
            with measuring():
                more, further = _race(model, fraction, precision, threads, rounds)
            rows, ratios = rows + more, ratios | further
    return Benchmark(rows, ratios, _protocol(processors, rounds))


def _race(
    model: str, zeros: float, precision: Any, threads: Sequence[int], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    packed = Packed(random_work(model, zeros), precision)
    engines = {count: packed.on(count) for count in threads}
    times: dict[int, list[float]] = {count: [] for count in threads}
    counts = COUNTS[model]
    for _ in range(rounds):
        for count, engine in engines.items():
            engine.times(counts.warm)
            times[count].append(statistics.median(engine.times(counts.hot)))
    rows = []
    for count in threads:
        seconds, bandwidth = statistics.median(times[count]), _bandwidth(packed.bytes, count)
        rows.append(
            {
                "model": model,
                "zeros": zeros,
                "precision": precision,
                "threads": count,
                "used": max(matrix.useful_threads(count) for matrix, _ in packed.layers),
                "median_us": 1e6 * seconds,
                "bytes": packed.bytes,
                "read_us": 1e6 * packed.bytes / bandwidth,
                "over_bound": seconds * bandwidth / packed.bytes,
                "setting": packed.setting,
            }
        )
    first, *others = threads
    tag = f"{model}:{precision}@{zeros:.2f}"
    return rows, {f"{tag}:{first}/{n}": median_ratio(times[first], times[n]) for n in others}


def _bandwidth(size: int, readers: int) -> float:
    """Bytes a second at which so many threads together read a buffer of `size` bytes, a part each, over and over."""
    read = extension.require("bandwidth").read_bandwidth
    with ThreadPoolExecutor(readers) as pool:
        return sum(pool.map(lambda _: read(size // readers, READING_SECONDS), range(readers)))


def _protocol(processors: list[int], rounds: int) -> dict[str, Any]:
    return machine() | {
        "processors": processors,
        "instruction_set": extension.require("ours").current(),
        "rounds": rounds,
        "interleaved": True,
        "work": "one time step, batch 1, weights in the caches as far as they fit, in the format that the packer "
        "chooses on one thread: L is 5 LSTM layers of 1024 and 640 inputs, S 2 of 256 and 120",
        "threads": "allowed; `used` of them: a product takes no more than pay",
        "read_us": "time in which as many threads read a buffer of as many bytes, a part each",
        "ratios": "median over rounds of the time on the first number of threads over that on the other",
    }
