"""One utterance streamed through one engine, every chunk timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cspbench.asr.trained import Pace
from cspbench.runtime.latency.engine import Engine


@dataclass(frozen=True)
class First:
    """The first label of an utterance; seconds, see `cspbench.result.FirstToken`."""

    audio: float
    work: float
    since_start: float


@dataclass(frozen=True)
class Streamed:
    """An utterance after it was streamed.

    Attributes:
        steps: seconds of each chunk that completed one model step, (S,).
        labels: labels each of those brought, (S,).
        emitted: all labels, in order.
        first: None if there was no label before the end.
        finish: seconds from handing over the last chunk, shorter than a step, until the last label is known.
        work: seconds of all work on it.
    """

    steps: NDArray[np.float64]
    labels: NDArray[np.int64]
    emitted: list[int]
    first: First | None
    finish: float
    work: float


def stream(engine: Engine, samples: NDArray[np.float32], pace: Pace) -> Streamed:
    """Hand an utterance over in chunks of a model step, as from a microphone, but without waiting for them.

    Args:
        engine: starts a new utterance; its own stopwatch times each chunk.
        samples: (n,) in [-1, 1] at the engine's rate.
        pace: how samples make steps.
    """
    engine.reset()
    size = pace.step_samples
    whole = len(samples) // size * size
    times: list[float] = []
    labels: list[int] = []
    emitted: list[int] = []
    first, ready = None, 0.0
    for start in range(0, whole, size):
        brought, seconds = engine.stopwatch(engine.accept, samples[start : start + size])
        times.append(seconds)
        labels.append(len(brought))
        passed = (start + size) / pace.sample_rate
        ready = max(ready, passed) + seconds  # had it come in real time: after its end, and after the work before it
        if len(brought) and first is None:
            first = First(passed, seconds, ready)
        emitted += brought
    last, finish = engine.stopwatch(_end, engine, samples[whole:])
    emitted += last
    single = np.asarray([n == 1 for n in _steps_of_chunks(len(times), size, pace)], dtype=bool)
    return Streamed(
        steps=np.asarray(times)[single],
        labels=np.asarray(labels, dtype=np.int64)[single],
        emitted=emitted,
        first=first,
        finish=finish,
        work=sum(times) + finish,
    )


def decode_whole(engine: Engine, samples: NDArray[np.float32], pace: Pace) -> Streamed:
    """Hand an utterance over at once, to an engine that decodes it when it has ended.

    The time of its only step is that of the whole utterance over the steps of the model in it.

    Args:
        engine: see `stream`, like all that follows.
        samples: (n,).
        pace: how samples make steps.
    """
    engine.reset()
    emitted, seconds = engine.stopwatch(_end, engine, samples)
    steps, length = pace.steps_in(len(samples)), len(samples) / pace.sample_rate
    return Streamed(
        steps=np.asarray([seconds / steps]),
        labels=np.asarray([len(emitted)]),
        emitted=list(emitted),
        first=First(length, seconds, length + seconds) if len(emitted) else None,
        finish=seconds,
        work=seconds,
    )


def _end(engine: Engine, rest: NDArray[np.float32]) -> Sequence[int]:
    return [*(engine.accept(rest) if len(rest) else ()), *engine.finish()]


def _steps_of_chunks(chunks: int, size: int, pace: Pace) -> NDArray[np.int64]:
    """Model steps that each chunk completes: the first may not fill a window yet."""
    return np.diff([pace.steps_in(size * count) for count in range(chunks + 1)])
