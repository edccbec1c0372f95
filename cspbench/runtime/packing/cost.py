"""Cost of a product with a packed matrix on this machine: measured once, remembered in the user's cache.

The machine is reserved while formats are timed (see `cspbench.machine.lock`). All formats of a matrix alternate, so
that what slows the machine slows all of them, and the medians are kept. Dense takes part twice: if it comes out faster
or slower than itself, the measurement is repeated, and one that stays so is marked and made again the next time.

Costs are remembered by processor, instruction set, build of the native module, threads, size of pages, shape, type of
values, density and unevenness of the rows: a matrix that agrees in all of these is not measured again. Another process
that waits for the same matrix finds the answer.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from cspbench.machine.cpu import processor_name
from cspbench.machine.lock import measuring
from cspbench.runtime import extension
from cspbench.runtime.packing.matrix import PackedMatrix
from cspbench.store import write_atomic

CACHE_VERSION = 2
ROUNDS, HOT, COLD = 5, 8, 3
"""Rounds of each format, and products in each round: with the matrix in the cache, and after it has been evicted."""
HOPELESS = 2.0
"""Candidates this many times slower than the best, in the geometric mean of hot and cold, are dropped after a round."""
NOISE = 1.05
"""Dense may come out so many times as slow as itself, hot and cold, in a measurement that is not marked."""
ATTEMPTS = 3
"""Measurements of a matrix at a time, as long as they are noisy."""
AGAIN = "dense again"
THREADS = 1
MOST_ENTRIES = 5_000
DEFAULT_LAST_CACHE = 64 << 20


class Cost(NamedTuple):
    """Median seconds of one product, one vector, one thread."""

    hot: float
    cold: float


class Measurement(NamedTuple):
    """Costs by label of a candidate, and whether noise was low enough to trust them."""

    costs: dict[str, Cost]
    quiet: bool


def measured_costs(candidates: Mapping[str, PackedMatrix], before: Callable[[], None]) -> Measurement:
    """Return the cost of each candidate, from the cache or measured now.

    Args:
        candidates: one matrix in several formats, "dense" among them, by label.
        before: called if they have to be measured.
    """
    key = _key(candidates["dense"], " and ".join(sorted({m.values for m in candidates.values()})))
    with _cache() as entries:
        known = entries.get(key)
        if known is None or not known["quiet"] or not set(candidates) <= set(known["costs"]):
            before()
            found = _measured_quietly(candidates)
            known = {"costs": {label: list(cost) for label, cost in found.costs.items()}, "quiet": found.quiet}
            entries[key] = known
    return Measurement({label: Cost(*known["costs"][label]) for label in candidates}, known["quiet"])


def _measured_quietly(candidates: Mapping[str, PackedMatrix]) -> Measurement:
    """The first measurement without noise, or else the last of `ATTEMPTS`."""
    with measuring() as reservation:
        for _ in range(ATTEMPTS):
            costs = measure(candidates)
            again = costs.pop(AGAIN)
            quiet = all(1 / NOISE <= a / b <= NOISE for a, b in zip(costs["dense"], again, strict=True))
            if quiet and reservation.undisturbed:
                return Measurement(costs, True)
    return Measurement(costs, False)


def measure(candidates: Mapping[str, PackedMatrix]) -> dict[str, Cost]:
    """Time the candidates in alternation, dense twice; candidates far slower than the best are dropped."""
    matrices = {label: m.native() for label, m in candidates.items()}
    matrices[AGAIN] = matrices["dense"]
    columns = next(iter(candidates.values())).columns
    x = np.random.default_rng(0).standard_normal(columns).astype(np.float32)
    rounds: dict[str, list[tuple[list[float], list[float]]]] = {label: [] for label in matrices}
    evict = 2 * last_cache_bytes()
    for _ in range(ROUNDS):
        for label in _promising(rounds):
            matrix = matrices[label]
            matrix.time(x, 2, threads=THREADS)  # the one before has left its own weights in the cache
            hot, cold = matrix.time(x, HOT, threads=THREADS), matrix.time(x, COLD, evict, threads=THREADS)
            rounds[label].append((hot.tolist(), cold.tolist()))
    return {label: _cost(taken) for label, taken in rounds.items()}


def _cost(rounds: list[tuple[list[float], list[float]]]) -> Cost:
    hot, cold = ([seconds for each in times for seconds in each] for times in zip(*rounds, strict=True))
    return Cost(median(hot), median(cold))


def _promising(rounds: Mapping[str, list[tuple[list[float], list[float]]]]) -> list[str]:
    if not all(rounds.values()):
        return list(rounds)
    costs = {label: _cost(taken) for label, taken in rounds.items()}
    best = min(cost.hot * cost.cold for cost in costs.values())
    always = ("dense", AGAIN)
    return [label for label, c in costs.items() if label in always or c.hot * c.cold <= HOPELESS**2 * best]


def _key(dense: PackedMatrix, values: str) -> str:
    """What a cost depends on. Density in steps of 9 %, deviation of the rows' counts in tenths of their mean."""
    counts = np.count_nonzero(dense.arrays["values"], axis=1)
    density = counts.mean() / dense.columns
    module = extension.require("measuring the cost of formats")
    parts = {
        "processor": _processor(),
        "instructions": module.current(),
        "build": _build(module.__file__),
        "threads": THREADS,
        "pages": _pages(),
        "shape": [dense.rows, dense.columns],
        "values": values,
        "density": round(8 * math.log2(density)) if density else None,
        "uneven": round(10 * counts.std() / counts.mean()) if density else 0,
    }
    return json.dumps(parts, sort_keys=True)


_processor = cache(processor_name)


@cache
def _pages() -> str:
    """Size of a page, and whether the system grants huge ones, e.g. ``4096, madvise``."""
    try:
        words = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().split()
    except OSError:
        words = []
    return ", ".join([str(mmap.PAGESIZE), *(word.strip("[]") for word in words if word.startswith("["))])


@cache
def _build(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


@cache
def last_cache_bytes() -> int:
    """Size of the processor's last-level cache; a generous guess where the system does not tell."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]] if text[-1] in "KMG" else int(text))
    return max(sizes, default=DEFAULT_LAST_CACHE)


def cache_file() -> Path:
    """Return the file of remembered costs, in ``cspbench`` under the user's cache folder."""
    return user_cache_path("cspbench", appauthor=False) / "packing-costs.json"


@contextmanager
def _cache() -> Iterator[dict[str, Any]]:
    """The remembered costs, to be read and added to; ours alone meanwhile."""
    path = cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        warnings.warn(f"costs of packed formats are measured anew each time: {error}", stacklevel=2)
        yield {}
        return
    try:
        costs = _read(path)
        before = json.dumps(costs)
        yield costs
        if json.dumps(costs) != before:
            recent = dict(list(costs.items())[-MOST_ENTRIES:])
            write_atomic(path, json.dumps({"version": CACHE_VERSION, "costs": recent}, indent=1) + "\n")
    finally:
        lock.release()


def _read(path: Path) -> dict[str, Any]:
    """What is remembered. A file that makes no sense is forgotten: it can be measured again."""
    try:
        value = json.loads(path.read_text())
        costs = value["costs"] if value["version"] == CACHE_VERSION else {}
        sane = all(
            isinstance(known["quiet"], bool) and all(_sane(cost) for cost in known["costs"].values())
            for known in costs.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return costs if sane else {}


def _sane(cost: Any) -> bool:
    return isinstance(cost, list) and len(cost) == 2 and all(isinstance(c, float) and 0 < c < math.inf for c in cost)
