"""The protocol: engines run interleaved in one process, on one set of pinned processors."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cspbench.asr.trained import Pace
from cspbench.errors import CorpusError
from cspbench.machine.cpu import load_average, pinned, processor_name, without_collection
from cspbench.machine.lock import Reservation, measuring
from cspbench.machine.quota import cpu_quota
from cspbench.result import FirstToken, Interval, Latency, Measured, Memory, Noise, TimeRatio
from cspbench.runtime.latency import statistics
from cspbench.runtime.latency.engine import Engine
from cspbench.runtime.latency.noise import Watch, judge
from cspbench.runtime.latency.stream import Streamed, decode_whole, stream
from cspbench.spec import LatencySpec

AGAIN = "first engine again"
"""The first engine takes part twice: its ratio to itself is noise."""

SINGLE = "measured in a single repetition: nothing shows how far chance reaches; measure twice or more"

Drive = Callable[[Engine, NDArray[np.float32], Pace], Streamed]

EXECUTION: dict[Drive, str] = {
    stream: "streaming, one model step at a time, feature extraction included",
    decode_whole: "whole utterances after their end, feature extraction included: the time of a model step is that of "
    "the utterance over its steps",
}
"""Ways to hand utterances over, in words."""


@dataclass(frozen=True)
class Place:
    """The place of a measurement: the processors it is pinned to, and its reservation of the machine."""

    processors: list[int]
    reservation: Reservation


@contextmanager
def quiet_place(threads: int) -> Iterator[Place]:
    """Reserve the machine, and pin this process to `threads` processors."""
    with measuring() as reservation, pinned(threads) as processors:
        yield Place(processors, reservation)


def measure(
    engines: Sequence[Engine],
    audio: Sequence[NDArray[np.float32]],
    pace: Pace,
    spec: LatencySpec,
    place: Place,
    drive: Drive = stream,
) -> Measured:
    """Stream the same utterances through all engines, interleaved.

    A step is the time from handing over the audio of one model step (30 ms with the default features) until its
    labels are known, feature extraction included. Engines alternate by whole utterances: an engine finds the caches as
    it left them a step before, as in use. The order rotates.

    Args:
        engines: of different names; each is what runs, its weights included.
        audio: utterances (n,) in [-1, 1].
        pace: how samples make steps.
        spec: warm-up and repetitions; `utterances` is not looked at.
        place: from `quiet_place`.
        drive: how an engine is handed an utterance, of `EXECUTION`.

    Raises:
        CorpusError: no utterance is long enough for two model steps.
    """
    audio = [samples for samples in audio if len(samples) >= 2 * pace.step_samples + pace.window]
    if not audio:
        raise CorpusError("no utterance is long enough to measure two steps of the model: stream longer ones")
    seconds = sum(map(len, audio)) / pace.sample_rate
    contestants = [(engine.name, engine) for engine in engines] + [(AGAIN, engines[0])]
    streamed: dict[str, list[Streamed]] = {name: [] for name, _ in contestants}
    watch = Watch(place.processors)
    with without_collection():
        deque(_turns(contestants, audio, range(-spec.warmup, 0), pace, drive), maxlen=0)
        with watch:
            for name, done in _turns(contestants, audio, range(spec.repeats), pace, drive, watch.sample):
                streamed[name].append(done)
    summaries = {e.name: _summary(e, streamed[e.name], spec.repeats, seconds) for e in engines}
    blocks = {name: [one.steps for one in done] for name, done in streamed.items()}
    medians = {name: one.median for name, one in summaries.items() if one.median is not None}
    if spec.repeats > 1:
        ratios, noise = judged(blocks, medians, watch, place, spec.threads)
    else:
        ratios, noise = {}, Noise(conclusive=False, verdict="noisy", reasons=[SINGLE], figures=watch.figures())
    protocol = _protocol(spec, place, pace, seconds, len(audio)) | {"execution": EXECUTION[drive]}
    return Measured(engines=summaries, ratios=ratios, noise=noise, protocol=protocol)


def _turns(
    contestants: Sequence[tuple[str, Engine]],
    audio: Sequence[NDArray[np.float32]],
    repeats: range,
    pace: Pace,
    drive: Drive,
    between: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, Streamed]]:
    for repeat in repeats:
        for index, samples in enumerate(audio):
            first = (repeat + index) % len(contestants)
            for name, engine in [*contestants[first:], *contestants[:first]]:
                yield name, drive(engine, samples, pace)
            between()


def judged(
    blocks: Mapping[str, Sequence[NDArray[np.float64]]],
    medians: Mapping[str, Interval],
    watch: Watch,
    place: Place,
    threads: int,
) -> tuple[dict[str, TimeRatio], Noise]:
    """Ratios of times, ``a/b`` for a before b, and the noise of the measurement.

    Args:
        blocks: name -> seconds of the steps or calls of each block, in the order they were taken; the first name's
            second participation is under `AGAIN`.
        medians: name -> its median time.
        watch: the machine during the measurement.
        place: of the measurement.
        threads: of the measurement.
    """
    names = [name for name in blocks if name != AGAIN]
    same = statistics.ratio(blocks[AGAIN], blocks[names[0]])
    ratios = {f"{a}/{b}": statistics.ratio(blocks[a], blocks[b]) for a, b in itertools.combinations(names, 2)}
    noise = judge(watch.figures(), same, medians, ratios, place.reservation.undisturbed, threads)
    return {name: statistics.compared(one, same) for name, one in ratios.items()}, noise


def _summary(engine: Engine, done: Sequence[Streamed], repeats: int, seconds: float) -> Latency:
    steps = np.concatenate([one.steps for one in done]) * 1000
    middle, p95, p99 = (float(x) for x in np.quantile(steps, (0.5, 0.95, 0.99)))
    return Latency(
        median_ms=middle,
        p95_ms=p95,
        p99_ms=p99,
        rtf=sum(one.work for one in done) / (seconds * repeats),
        steps=len(steps),
        median=statistics.median([one.steps * 1000 for one in done]) if repeats > 1 else None,
        first_token=_first_token(done, repeats),
        finish_ms=float(np.median([one.finish for one in done])) * 1000,
        labels=sum(len(one.emitted) for one in done) // repeats,
        step_bytes=None if engine.traffic is None else engine.traffic.mean(np.concatenate([o.labels for o in done])),
        memory=Memory(weights=engine.weight_bytes, state=engine.state_bytes),
        file_bytes=engine.file_bytes,
        engine=engine.description,
    )


def _first_token(done: Sequence[Streamed], repeats: int) -> FirstToken | None:
    firsts = [one.first for one in done if one.first is not None]
    if not firsts:
        return None
    audio, work, since_start = np.median([(f.audio, f.work, f.since_start) for f in firsts], axis=0) * 1000
    return FirstToken(
        audio_ms=float(audio),
        work_ms=float(work),
        since_start_ms=float(since_start),
        utterances=len(firsts) // repeats,
    )


def _protocol(spec: LatencySpec, place: Place, pace: Pace, seconds: float, utterances: int) -> dict[str, Any]:
    return {
        "device": "cpu",
        "processor": processor_name(),
        "processors": place.processors,
        "threads": spec.threads,
        "cpu_quota": cpu_quota(),
        "batch": 1,
        "audio_seconds": round(seconds, 3),
        "utterances": utterances,
        "step_ms": round(pace.step_seconds * 1000, 3),
        "warmup": spec.warmup,
        "repeats": spec.repeats,
        "interleaved": True,
        "garbage_collection": "off",
        "others_stepped_aside": place.reservation.undisturbed,
        # Other work on the machine blurs absolute times; the ratio of interleaved engines suffers less.
        "load_average": load_average(),
    }
