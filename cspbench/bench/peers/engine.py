"""The interface of everything that is raced: engines that run one step of a work, and how each is made."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cspbench.bench.peers.workload import Kind, Work
from cspbench.errors import CspbenchError

Precision = Literal["fp32", "bf16", "int8", "int4"]


class Evict(Protocol):
    """Empties the caches; `bytes` is how many it reads for that, for engines that do it themselves."""

    bytes: int

    def __call__(self) -> object: ...


class AbsentError(CspbenchError):
    """A contestant that cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Contestant:
    """An engine that can be made for any work.

    Attributes:
        name: unique.
        precision: of its weights; rivals are compared within one.
        make: raises `AbsentError` where the engine cannot run.
        ours: part of cspbench, not a peer.
        lookahead: multiplies the inputs of many steps at once, which a stream cannot: compared apart.
        kind: of the works that it takes.
    """

    name: str
    precision: Precision
    make: Callable[[Work], StepEngine]
    ours: bool = False
    lookahead: bool = False
    kind: Kind = "lstm"


class StepEngine(ABC):
    """One way to run a step of a work.

    Attributes:
        setting: library, operators and options, in words.
        bytes: of its matrices, as it keeps them or (dense, closed engines) at least.
    """

    setting: str
    bytes: int

    @abstractmethod
    def outputs(self) -> np.ndarray:
        """Outputs (STEPS, H) for the inputs of the work from a state of zeros, by the code that is timed."""

    @abstractmethod
    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        """Seconds of each of `steps` steps; before each, `evict` empties the caches."""


class Stepping(StepEngine):
    """An engine whose steps are called, and timed, from Python. What the call itself costs is measured and left out."""

    def __init__(self, work: Work) -> None:
        self.inputs = list(work.inputs)

    @abstractmethod
    def reset(self) -> None:
        """Set the state to zeros."""

    @abstractmethod
    def load(self, x: np.ndarray) -> None:
        """Hand over the next input (C,); not timed."""

    @abstractmethod
    def step(self) -> None:
        """Advance by one time step."""

    @abstractmethod
    def output(self) -> np.ndarray:
        """Output (H,) of the last step."""

    empty: Callable[[], object] | None = None
    """A call through the same binding that does nothing."""

    def outputs(self) -> np.ndarray:
        self.reset()
        found = []
        for x in self.inputs:
            self.load(x)
            self.step()
            found.append(self.output().copy())
        return np.stack(found)

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        # Beside each step: a machine that changes its pace in between would leave a difference of two paces.
        overheads, times = [], []
        for index in range(steps):
            overheads.append(self.overhead(evict))
            self.load(self.inputs[index % len(self.inputs)])
            times.append(seconds(self.step, evict))
        overhead = statistics.median(overheads) if overheads else 0.0
        return [time - overhead for time in times]

    def overhead(self, evict: Evict | None) -> float:
        """Seconds of an empty call, with caches as they are in the steps."""
        return 0.0 if self.empty is None else seconds(self.empty, evict)


def seconds(call: Callable[[], object], evict: Evict | None = None) -> float:
    """Seconds of a call, after `evict`."""
    if evict is not None:
        evict()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def dense_bytes(work: Work, each: int) -> int:
    """Bytes of every weight, zeros included."""
    return work.weights * each
