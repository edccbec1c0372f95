"""What a product with a packed matrix costs on this machine: measured once, remembered in the user's cache.

All formats of a matrix take turns, so that what slows the machine slows all of them, and the medians are kept. Times
are remembered by processor, instruction set, build of the native module, shape, type of values, density and how uneven
the rows are: a matrix that agrees in all of these is not measured again. One process measures at a time; another that
waits for the same matrix finds the answer when its turn comes.
"""

from __future__ import annotations

import hashlib
import json
import math
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

from cspbench.runtime import extension
from cspbench.runtime.packing.matrix import PackedMatrix
from cspbench.store import write_atomic

CACHE_VERSION = 1
ROUNDS, HOT, COLD = 5, 8, 3
"""Turns of each format, and products in each turn: with the matrix in the cache, and after it has been driven out."""
HOPELESS = 2.0
"""Times the best, in the geometric mean of hot and cold."""
MOST_ENTRIES = 5_000
DEFAULT_LAST_CACHE = 64 << 20


class Cost(NamedTuple):
    """Median seconds of one product, one vector, one thread."""

    hot: float
    cold: float


def measured_costs(candidates: Mapping[str, PackedMatrix], before: Callable[[], None]) -> dict[str, Cost]:
    """Cost of each candidate, all of one matrix and "dense" among them; `before` is called if this takes measuring."""
    key = _key(candidates["dense"])
    with _cache() as costs:
        known = costs.get(key, {})
        if not set(candidates) <= set(known):
            before()
            known = costs[key] = {label: list(cost) for label, cost in measure(candidates).items()}
    return {label: Cost(*known[label]) for label in candidates}


def measure(candidates: Mapping[str, PackedMatrix]) -> dict[str, Cost]:
    """Time the candidates in turns. Who is hopeless after the first turn takes no other; dense always does."""
    matrices = {label: m.native() for label, m in candidates.items()}
    columns = next(iter(candidates.values())).columns
    x = np.random.default_rng(0).standard_normal(columns).astype(np.float32)
    turns: dict[str, list[tuple[list[float], list[float]]]] = {label: [] for label in matrices}
    evict = 2 * last_cache_bytes()
    for _ in range(ROUNDS):
        for label in _hopeful(turns):
            matrix = matrices[label]
            matrix.time(x, 2)  # whoever went before has left its own weights in the cache
            turns[label].append((matrix.time(x, HOT).tolist(), matrix.time(x, COLD, evict).tolist()))
    return {label: _cost(taken) for label, taken in turns.items()}


def _cost(turns: list[tuple[list[float], list[float]]]) -> Cost:
    hot, cold = ([seconds for turn in times for seconds in turn] for times in zip(*turns, strict=True))
    return Cost(median(hot), median(cold))


def _hopeful(turns: Mapping[str, list[tuple[list[float], list[float]]]]) -> list[str]:
    if not all(turns.values()):
        return list(turns)
    costs = {label: _cost(taken) for label, taken in turns.items()}
    best = min(cost.hot * cost.cold for cost in costs.values())
    return [label for label, c in costs.items() if label == "dense" or c.hot * c.cold <= HOPELESS**2 * best]


def _key(dense: PackedMatrix) -> str:
    """What a cost depends on. Density in steps of 9 %, deviation of the rows' counts in tenths of their mean."""
    counts = np.count_nonzero(dense.arrays["values"], axis=1)
    density = counts.mean() / dense.columns
    module = extension.require("measuring the cost of formats")
    parts = {
        "processor": _processor(),
        "instructions": module.current(),
        "build": _build(module.__file__),
        "shape": [dense.rows, dense.columns],
        "values": dense.values,
        "density": round(8 * math.log2(density)) if density else None,
        "uneven": round(10 * counts.std() / counts.mean()) if density else 0,
    }
    return json.dumps(parts, sort_keys=True)


@cache
def _processor() -> str:
    from cspbench.runtime.latency import processor_name

    return processor_name()


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
        sane = all(_sane(cost) for known in costs.values() for cost in known.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return costs if sane else {}


def _sane(cost: Any) -> bool:
    return isinstance(cost, list) and len(cost) == 2 and all(isinstance(c, float) and 0 < c < math.inf for c in cost)
