"""One step of a stack of LSTM layers, or a linear layer on one vector: ours beside every engine that could replace it.

All engines of a work run interleaved in one process on one processor, each in the best setting we know for it. Their
outputs are checked first, against a reference in 64 bits. A ratio is how many times faster ours is. Its plain name has
the lower of two: weights in the caches, as far as they fit (hot), and evicted before every step (cold).
"""

from __future__ import annotations

import importlib.metadata
import itertools
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cspbench.bench import Benchmark, machine
from cspbench.bench.peers import CONTESTANTS, Contestant, block_kernels, end_to_end
from cspbench.bench.peers.engine import Precision
from cspbench.bench.peers.masks import open_pruned, pruned_work
from cspbench.bench.peers.race import COUNTS, STATES, CacheState, Entry, Evictor, best, enter, lower, paired, race
from cspbench.bench.peers.workload import (
    BLOCK_SHAPES,
    BLOCK_WORKS,
    BLOCKS,
    LINEAR,
    SIZES,
    Work,
    block_work,
    random_work,
)
from cspbench.errors import ConfigError
from cspbench.machine.cpu import pinned, without_collection
from cspbench.machine.lock import measuring
from cspbench.runtime import extension
from cspbench.runtime.packing.cost import last_cache_bytes

MODELS = (*SIZES, LINEAR, BLOCKS)
ZEROS = (0.0, 0.5, 0.75, 0.9, 0.95)
QUICK: dict[str, Any] = {"models": ("S",), "zeros": (0.9,), "rounds": 2}
"""Arguments of `run` that finish within seconds: to see that it works."""

CLAIMED: tuple[Precision, ...] = ("fp32", "int8")
PACKAGES = ("numpy", "onnxruntime", "onnx", "openvino", "mkl", "sherpa-onnx")
BANDWIDTH_SECONDS = 0.04

Progress = Callable[[str], None]
Found = TypeVar("Found")


def run(
    *,
    models: Sequence[str] = (*SIZES, LINEAR),
    zeros: Sequence[float] = ZEROS,
    rounds: int = 11,
    masks: Path | None = None,
    model: Path | None = None,
    path: Path | None = None,
    kernels: Path | None = None,
    contestants: Sequence[Contestant] = CONTESTANTS,
    progress: Progress = lambda _: None,
) -> Benchmark:
    """Measure.

    Args:
        models: of `SIZES`; ``linear``, a layer of 1024 x 4096 weights; ``blocks``, products whose zeros fill blocks.
        zeros: fractions of zeros among the weights.
        rounds: measured rounds; every engine runs in each.
        masks: folder of a pruned model of the preset `small`, whose zeros are tried beside random ones.
        model: folder of a pruned model, for the whole recogniser; None takes random weights.
        path: folder of the AN4 corpus, which the recogniser decodes; None takes noise.
        kernels: folder of libraries that take part in ``blocks``; see `block_kernels`.
        contestants: engines that take part.
        progress: called with status lines.

    Returns:
        Rows by engine, work and state; ratios as the protocol explains them.

    Raises:
        ConfigError: an unknown size, a fraction of zeros outside [0, 1), kernels that cannot be used.
    """
    check_work(models, zeros, MODELS)
    if kernels is not None:
        if BLOCKS not in models:
            raise ConfigError(f"the kernels in {kernels} take part in '{BLOCKS}': add it to the models")
        contestants = [*contestants, *block_kernels.contestants(kernels)]
    pruned = open_pruned(masks) if masks else None
    task = end_to_end.make_decoding(model, path)
    with _pinned() as processors:
        evict = Evictor(4 * last_cache_bytes())
        meter, reserved = _Bandwidth(evict.bytes), _Reservations()
        rest = contestants, rounds, evict, meter, progress
        races = [
            reserved(_race, work, *rest) for model in models for fraction in zeros for work in _works(model, fraction)
        ]
        rows, ratios = _results(races, "")
        ratios |= reserved(_falls, races, rounds, evict, progress)
        if pruned:
            found = [reserved(_race, pruned_work(model, pruned), *rest) for model in models if model in SIZES]
            more, further = _results(found, "pruned:")
            rows, ratios, races = rows + more, ratios | further, races + found
        whole, further = reserved(end_to_end.measure, task, rounds, progress)
        protocol = _protocol(races, meter, str(task), rounds)
    return Benchmark(rows + whole, ratios | further, protocol | {"alone": reserved.alone, "processors": processors})


def check_work(models: Sequence[str], zeros: Sequence[float], known: Collection[str]) -> None:
    """Raise ConfigError for a model that is not among the `known`, or a fraction of zeros outside [0, 1)."""
    for name in models:
        if name not in known:
            raise ConfigError(f"there is no model '{name}' ({', '.join(known)})")
    for fraction in zeros:
        if not 0 <= fraction < 1:
            raise ConfigError(f"a fraction of zeros lies in [0, 1), got {fraction:g}")


def _works(model: str, zeros: float) -> list[Work]:
    if model == BLOCKS:
        return [block_work(made, shape, zeros) for made in BLOCK_WORKS for shape in BLOCK_SHAPES]
    return [random_work(model, zeros)]


@contextmanager
def _pinned() -> Iterator[list[int]]:
    """One thread, one processor, which is yielded."""
    with pinned(1) as processors, torch.inference_mode(), without_collection():
        yield processors


class _Reservations:
    """A reservation of the machine for each part: work is not paused for as long as all of them take together.

    Attributes:
        alone: all work was paused in all of them.
    """

    def __init__(self) -> None:
        self.alone = True

    def __call__(self, part: Callable[..., Found], *arguments: Any) -> Found:
        with measuring() as reservation:
            found = part(*arguments)
            self.alone = self.alone and reservation.undisturbed
        return found


class _Bandwidth:
    """Read bandwidth of one thread beyond the caches, bytes a second, measured in every round."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.readings: list[float] = []

    def __call__(self) -> None:
        if extension.available():
            self.readings.append(extension.require("bandwidth").read_bandwidth(self.size, BANDWIDTH_SECONDS))


def _race(
    work: Work, contestants: Sequence[Contestant], rounds: int, evict: Evictor, meter: _Bandwidth, progress: Progress
) -> list[Entry]:
    progress(f"{work.model}, {work.zeros:.2f} zeros ({work.mask})")
    # On L a call of many steps takes as long as all the rest, and S shows the same.
    fitting = [c for c in contestants if c.kind == work.kind and (work.model == "S" or not c.lookahead)]
    entries = [enter(contestant, work) for contestant in fitting]
    for entry in entries:
        if entry.absent:
            progress(f"  {entry.name}: {entry.absent}")
        if entry.saturates:
            progress(f"  {entry.name}: saturates where weights and inputs use the full range of int8")
    race(entries, rounds, COUNTS[work.model], evict, meter)
    for entry in entries:
        entry.bandwidths = meter.readings[-rounds:]
        if entry.name not in {f"ours_{precision}" for precision in CLAIMED}:
            entry.engine = None  # gives its memory back; ours run once more
    return entries


def _results(races: Sequence[Sequence[Entry]], prefix: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    rows = [row for entries in races for entry in entries for row in _rows(entry)]
    ratios: dict[str, float] = {}
    for entries in races:
        ratios |= _ratios(entries, prefix)
    return rows, ratios


def _rows(entry: Entry) -> list[dict[str, Any]]:
    states: list[CacheState | None] = [state for state in STATES if entry.rounds[state]]
    return [_row(entry, state) for state in states or [None]]


def _row(entry: Entry, state: CacheState | None) -> dict[str, Any]:
    times = [1e6 * x for x in entry.all(state)] if state else []
    return {
        "engine": entry.name,
        "precision": entry.contestant.precision,
        "model": entry.work.model,
        "zeros": round(1 - entry.work.nonzeros / entry.work.weights, 4),
        "mask": entry.work.mask,
        "state": state,
        "median_us": statistics.median(times) if times else None,
        "p95_us": float(np.quantile(times, 0.95)) if times else None,
        "min_us": min(times, default=None),
        "bytes": entry.bytes,
        "over_bound": _over_bound(entry) if state == "cold" and entry.contestant.ours else None,
        "error": entry.error,
        "relative_error": entry.relative,
        "saturates": entry.saturates,
        "protocol": entry.absent or entry.setting,
    }


def _ratios(entries: Sequence[Entry], prefix: str) -> dict[str, float]:
    by_name = {entry.name: entry for entry in entries}
    work = entries[0].work
    prefix += "" if work.model == "L" else f"{work.model}:"
    tag = f"@{work.zeros:.2f}"
    found: dict[str, float] = {}
    for precision in CLAIMED:
        ours = by_name.get(f"ours_{precision}")
        if ours is None or not ours.rounds["hot"]:
            continue
        rivals = [e for e in entries if e.contestant.precision == precision and not e.contestant.ours]
        alike = [e for e in rivals if not e.contestant.lookahead]
        found |= _against(f"{prefix}best_{precision}", f"ours_{precision}{tag}", alike, ours)
        if precision == "fp32":
            dense = [e for e in alike if e.name == "torch_dense"]
            found |= _against(f"{prefix}torch_dense", f"ours_fp32{tag}", dense, ours)
        ahead = best([e for e in rivals if e.contestant.lookahead], "hot")
        if ahead and ours.timed("hot"):
            found[f"{prefix}lookahead_{precision}/ours_{precision}{tag}:hot"] = paired(ahead, ours, "hot")
        if (bound := _over_bound(ours)) is not None:
            found[f"{prefix}bound/{precision}{tag}"] = bound
    return found


def _against(above: str, below: str, rivals: Sequence[Entry], ours: Entry) -> dict[str, float]:
    """The ratio of the fastest rival in each state; the lower under the plain name, where both could be measured."""
    fastest = {state: best(rivals, state) for state in STATES if ours.timed(state)}
    each = {state: paired(entry, ours, state) for state, entry in fastest.items() if entry is not None}
    named = {f"{above}/{below}:{state}": value for state, value in each.items()}
    return ({f"{above}/{below}": lower(each)} if len(each) == len(STATES) else {}) | named


def _over_bound(entry: Entry) -> float | None:
    """Cold time over the time that reading the bytes of the format takes at the bandwidth of the same round; median."""
    if not entry.bandwidths or not entry.timed("cold") or not entry.bytes:
        return None
    pairs = zip(entry.medians("cold"), entry.bandwidths, strict=True)
    return statistics.median(seconds * bandwidth for seconds, bandwidth in pairs) / entry.bytes


def _falls(races: Sequence[Sequence[Entry]], rounds: int, evict: Evictor, progress: Progress) -> dict[str, float]:
    """Smallest ratio of ours at neighbouring sparsities, measured interleaved; above 1 time falls with every step."""
    found: dict[str, float] = {}
    for model in dict.fromkeys(entries[0].work.model for entries in races):
        for precision in CLAIMED:
            chain = [e for entries in races for e in entries if e.work.model == model and e.name == f"ours_{precision}"]
            chain = [replace(e, rounds={s: [] for s in STATES}) for e in chain if e.engine is not None]
            chain.sort(key=lambda entry: entry.work.zeros)
            if len(chain) < 2:
                continue
            progress(f"{model}, {precision}: all sparsities interleaved")
            race(chain, rounds, COUNTS[model], evict)
            if not all(entry.timed(state) for entry in chain for state in STATES):
                continue
            steps = [paired(a, b, s) for a, b in itertools.pairwise(chain) for s in STATES]
            found[f"{'' if model == 'L' else f'{model}:'}falls/ours_{precision}"] = min(steps)
    return found


def _protocol(races: Sequence[Sequence[Entry]], meter: _Bandwidth, task: str, rounds: int) -> dict[str, Any]:
    absent = {entry.name: entry.absent for entries in races for entry in entries if entry.absent}
    return machine() | {
        "packages": {name: _version(name) for name in PACKAGES},
        "instruction_set": extension.require("ours").current() if extension.available() else None,
        "read_gb_per_s": round(statistics.median(meter.readings) / 1e9, 2) if meter.readings else None,
        "absent": absent,
        "rounds": rounds,
        "steps": {name: f"{c.warm} uncounted, {c.hot} hot, {c.cold} cold" for name, c in COUNTS.items()},
        "interleaved": True,
        "recogniser": task,
        "work": "one time step, batch 1: L is 5 LSTM layers of 1024 and 640 inputs, S 2 of 256 and 120; linear is "
        "nn.Linear(1024, 4096) on one vector, ours called from Python like torch, each less its call on 1 x 1; "
        "blocks: one product, no bias, without a call from Python",
        "ratios": "median over rounds of the peer's median step over ours; plain names: the lower of hot and cold; "
        "a time that cannot be told from an empty call's gives no ratio",
        "best": "the peer of that precision with the lowest median; each is checked against a 64-bit reference first",
        "cold": "before each step a buffer of four times the last cache is read; that is not timed",
        "bound": "cold step over (bytes of the format / read bandwidth measured in the same round); 1 is the limit",
        "peers": "the best setting known; where a step is one call from Python (ONNX Runtime, OpenVINO) or one a layer "
        "(MKL), an empty one is timed and subtracted; torch runs eagerly, whole; ours are timed natively, whole",
        "lookahead": "peers that take 50 steps a call and multiply all their inputs at once, which a stream cannot do",
        "falls": "ours at all sparsities, interleaved: the least ratio of neighbours, hot or cold; above 1 time falls",
        "whole": end_to_end.RULE,
        "pruned": "S: a pruned encoder itself; L: zeros as uneven over rows and columns as in that encoder",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
