"""Interleaved rounds: in each, every engine takes some steps with its weights in the caches, and some without."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from cspbench.bench.peers.engine import AbsentError, Contestant, StepEngine
from cspbench.bench.peers.workload import BLOCK_SHAPES, BLOCK_WORKS, LINEAR, Work, full_range_work

CacheState = Literal["hot", "cold"]
STATES: tuple[CacheState, ...] = ("hot", "cold")

TOLERANCE = 1e-4
"""Largest error of an output of fp32 engines; outputs lie in (-1, 1)."""

ROUGH = 0.1
"""Largest error of engines of lower precision: norm of the difference over that of the reference."""

ROUGH_INT4 = 0.3
"""The same for weights of four bits; each is off by up to a fourteenth of the largest of its row."""


@dataclass(frozen=True)
class Counts:
    """Steps of an engine in a round; the first ones, not counted, find the caches as another engine left them."""

    warm: int
    hot: int
    cold: int


COUNTS = {"L": Counts(1, 3, 2), "S": Counts(20, 100, 10), LINEAR: Counts(3, 20, 5)}
COUNTS |= {f"{work.kind}:{shape}": Counts(5, 40, 5) for work in BLOCK_WORKS for shape in BLOCK_SHAPES}


class Evictor:
    """Reads a buffer several times as large as the caches."""

    def __init__(self, bytes: int) -> None:
        self.bytes = bytes
        self._buffer = torch.ones(bytes // 4)

    def __call__(self) -> float:
        return float(self._buffer.sum())


@dataclass
class Entry:
    """A contestant in a race over one work.

    Attributes:
        contestant: name and kind of the engine.
        work: that it runs.
        engine: ready to step; None if it cannot take part.
        absent: the reason if it cannot.
        error: largest difference of an output from the reference.
        relative: norm of the difference over that of the reference.
        saturates: true for a peer in int8 whose sums overflow where weights and inputs use the full range; None for
            others.
        setting: library, operators and options, in words.
        bytes: of its matrices.
        rounds: for each state, seconds of the steps of each round.
        bandwidths: read bandwidth when each round began, bytes a second; empty where it was not measured.
    """

    contestant: Contestant
    work: Work
    engine: StepEngine | None = None
    absent: str | None = None
    error: float | None = None
    relative: float | None = None
    saturates: bool | None = None
    setting: str | None = None
    bytes: int | None = None
    rounds: dict[CacheState, list[list[float]]] = field(default_factory=lambda: {state: [] for state in STATES})
    bandwidths: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.contestant.name

    def medians(self, state: CacheState) -> list[float]:
        """Median seconds of a step in each round."""
        return [statistics.median(times) for times in self.rounds[state]]

    def timed(self, state: CacheState) -> bool:
        """Return True if each round has a median above 0: what is left of a call less an empty one can be noise."""
        return bool(self.rounds[state]) and min(self.medians(state)) > 0

    def all(self, state: CacheState) -> list[float]:
        """Seconds of all steps."""
        return [x for times in self.rounds[state] for x in times]


def enter(contestant: Contestant, work: Work) -> Entry:
    """Make the engine and check its outputs; one that cannot run, or computes something else, does not take part."""
    entry = Entry(contestant, work)
    try:
        engine = contestant.make(work)
        found = engine.outputs().astype(np.float64)
    except AbsentError as error:
        entry.absent = str(error)
        return entry
    entry.setting, entry.bytes = engine.setting, engine.bytes
    entry.error, entry.relative = _errors(found, work)
    if contestant.precision == "int8" and not contestant.ours:
        entry.saturates = _saturates(contestant)
    rough = ROUGH_INT4 if contestant.precision == "int4" else ROUGH
    right = entry.error <= TOLERANCE if contestant.precision == "fp32" else entry.relative <= rough
    if right:  # a comparison with NaN is false
        entry.engine = engine
    else:
        entry.absent = f"wrong outputs: off by {entry.error:.2g} ({entry.relative:.2g} of their norm)"
    return entry


def _errors(found: np.ndarray, work: Work) -> tuple[float, float]:
    """Largest difference from the reference, and the norm of the difference over that of the reference."""
    difference = found - work.reference
    return float(np.abs(difference).max()), float(np.linalg.norm(difference) / np.linalg.norm(work.reference))


@functools.cache
def _saturates(contestant: Contestant) -> bool:
    work = full_range_work(contestant.kind)
    return not _errors(contestant.make(work).outputs().astype(np.float64), work)[1] <= ROUGH


def race(
    entries: Sequence[Entry], rounds: int, counts: Counts, evict: Evictor, between: Callable[[], object] = lambda: None
) -> None:
    """Run the rounds, each beginning with another engine; times are added to the entries."""
    running = [entry for entry in entries if entry.engine is not None]
    for round_ in range(rounds):
        between()
        start = round_ % len(running) if running else 0
        for entry in [*running[start:], *running[:start]]:
            assert entry.engine is not None
            entry.engine.times(counts.warm)
            entry.rounds["hot"].append(entry.engine.times(counts.hot))
            if not entry.contestant.lookahead:
                entry.rounds["cold"].append(entry.engine.times(counts.cold, evict))


def paired(above: Entry, below: Entry, state: CacheState) -> float:
    """Median over rounds of the ratio of medians: how many times faster `below` is."""
    pairs = zip(above.medians(state), below.medians(state), strict=True)
    return statistics.median(a / b for a, b in pairs)


def best(entries: Sequence[Entry], state: CacheState) -> Entry | None:
    """The fastest of those that ran and took a time that could be measured."""
    ran = [entry for entry in entries if entry.timed(state)]
    return min(ran, key=lambda entry: statistics.median(entry.medians(state)), default=None)


def lower(values: Mapping[CacheState, float]) -> float:
    """The lower of hot and cold: a claim must hold in both."""
    return min(values.values())
