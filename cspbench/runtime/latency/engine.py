"""The interface of an engine that is measured, and the bytes of weights that it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Result = TypeVar("Result")


class Stopwatch(Protocol):
    """Times a call."""

    def __call__(self, call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
        """Return what the call returned, and the seconds it took."""


def wall_clock(call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Stopwatch of an engine that runs on the processor."""
    began = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - began


class Engine(Protocol):
    """A streaming recogniser of one stream.

    Attributes:
        name: under which it is reported.
        description: library, weights and number format, in words.
        traffic: bytes of weights it reads; None where they are not counted.
        weight_bytes: bytes of all its weights, exactly.
        state_bytes: bytes that one stream carries from step to step, exactly.
        file_bytes: bytes of the packed file it runs; None if it runs none.
    """

    name: str
    description: str
    weight_bytes: int
    file_bytes: int | None

    @property
    def traffic(self) -> Traffic | None: ...

    @property
    def state_bytes(self) -> int: ...

    @property
    def stopwatch(self) -> Stopwatch:
        """The stopwatch that times it."""

    def reset(self) -> None:
        """Start a new utterance."""

    def accept(self, samples: NDArray[np.float32]) -> Sequence[int]:
        """Decode samples (N,) in [-1, 1]; return the new labels."""

    def finish(self) -> Sequence[int]:
        """End the utterance; return the last labels."""


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

    @classmethod
    def of(cls, parts: Mapping[str, int], units: int, max_symbols: int) -> Traffic:
        """Traffic of a recogniser from the bytes of its parts.

        Args:
            parts: bytes of ``normalisation, encoder, embedding, prediction, joint_encoder, joint_prediction`` and
                ``joint_output``.
            units: rows of the embedding, of which a label reads one.
            max_symbols: labels in one step at most.
        """
        return cls(
            step=parts["normalisation"] + parts["encoder"] + parts["joint_encoder"],
            joint=parts["joint_output"],
            label=parts["embedding"] // units + parts["prediction"] + parts["joint_prediction"],
            max_symbols=max_symbols,
        )

    def mean(self, labels: NDArray[np.int64]) -> float:
        """Bytes a step, on average over steps that emitted `labels` (steps,) each."""
        evaluations = np.minimum(labels + 1, self.max_symbols)
        return float(self.step + (self.joint * evaluations + self.label * labels).mean())
