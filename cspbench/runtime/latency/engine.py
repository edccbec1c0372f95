"""What the protocol asks of an engine, and how many bytes of weights an engine reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cspbench.spec import FeatureSpec

Result = TypeVar("Result")


class Stopwatch(Protocol):
    """Times a call."""

    def __call__(self, call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
        """What the call returned, and the seconds it took."""


def wall_clock(call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Stopwatch of an engine that runs on the processor."""
    began = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - began


class Engine(Protocol):
    """A streaming recogniser of one stream.

    Attributes:
        name: under which it is reported.
        description: what it is, in words.
        traffic: the weights it reads.
        weight_bytes: all it keeps of the model, exactly.
        state_bytes: what one stream carries from step to step, exactly.
    """

    name: str
    description: str
    traffic: Traffic
    weight_bytes: int
    state_bytes: int

    @property
    def stopwatch(self) -> Stopwatch:
        """What times it."""

    def reset(self) -> None:
        """Start a new utterance."""

    def accept(self, samples: NDArray[np.float32]) -> Sequence[int]:
        """Consume samples (n,) in [-1, 1]; return the labels they brought."""

    def finish(self) -> Sequence[int]:
        """End the utterance; return the labels that were still to come."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of weights, with all their indices, that recognition reads.

    Attributes:
        step: by every model step: encoder, its projection to the joint, normalisation.
        joint: by every evaluation of the joint's output: one a step, and one more after each label but the last that
            a step may emit.
        label: by every label: its embedding, the prediction network, its projection.
        max_symbols: labels in one step at most.
    """

    step: int
    joint: int
    label: int
    max_symbols: int

    def mean(self, labels: NDArray[np.int64]) -> float:
        """Bytes a step, on average over steps that emitted `labels` (steps,) each."""
        evaluations = np.minimum(labels + 1, self.max_symbols)
        return float(self.step + (self.joint * evaluations + self.label * labels).mean())


@dataclass(frozen=True)
class Pace:
    """How samples make model steps: whole windows only, `stack` of them a step."""

    sample_rate: int
    window: int
    hop: int
    stack: int

    @classmethod
    def of(cls, features: FeatureSpec, sample_rate: int) -> Pace:
        """The pace of a front end; lengths are cut to whole samples, in single precision, as Kaldi does it."""
        per_ms = np.float32(sample_rate) * np.float32(0.001)
        window, hop = (int(per_ms * np.float32(ms)) for ms in (features.window_ms, features.hop_ms))
        return cls(sample_rate, window, hop, features.stack)

    @property
    def step_samples(self) -> int:
        """Samples from one step to the next."""
        return self.hop * self.stack

    @property
    def step_seconds(self) -> float:
        """Seconds of audio from one step to the next."""
        return self.step_samples / self.sample_rate

    def steps_in(self, samples: int) -> int:
        """Model steps that so many samples complete."""
        return 0 if samples < self.window else ((samples - self.window) // self.hop + 1) // self.stack
