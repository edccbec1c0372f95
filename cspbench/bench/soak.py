"""Hours of audio over many streams at once, as fast as they are taken: nothing may grow, and nothing may change.

Streams decode recordings over and over, in an order and in chunks of their own. Each transcript has to be the one that
the recording got when it was decoded alone, in one chunk. Now and then a stream is saved, and another goes on from it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cspbench.bench import Benchmark, machine
from cspbench.bench.peers.end_to_end import Decoding, make_decoding
from cspbench.errors import ConfigError
from cspbench.runtime.latency.audio import Samples
from cspbench.runtime.packing import pack_model
from cspbench.runtime.recogniser import Recogniser

READINGS = 60
"""Readings of the process's memory, evenly over the audio."""

TOGETHER = 0.5
"""Fraction of rounds in which all streams advance in one call."""

SAVED = 0.01
"""Probability that a stream is saved after a chunk and goes on as another."""

LONGEST_CHUNK = 0.4
"""Seconds of audio a stream decodes at once, at most."""

SETTLED = 0.25
"""Fraction of the readings in which caches and pools may still fill; memory is judged after it."""


@dataclass
class Playback:
    """A recording on its way into a stream, and how many of its samples have been decoded."""

    stream: Recogniser
    recording: int
    position: int = 0


@dataclass
class Tally:
    """Counts of a run.

    Attributes:
        seconds: of audio.
        transcripts: recordings decoded to their end.
        changed: those with other labels than in the first pass: seconds of audio until then, recording.
        saved: streams that went on from a snapshot.
        memory: (seconds of audio, bytes of memory) now and then.
    """

    seconds: float = 0.0
    transcripts: int = 0
    changed: list[tuple[int, int]] = field(default_factory=list)
    saved: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)


def run(
    *,
    hours: float = 6.0,
    streams: int = 16,
    model: Path | None = None,
    path: Path | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Soak a recogniser.

    Args:
        hours: of audio, all streams together.
        streams: decoded at the same time.
        model: packed file, or folder of a model; None takes random weights of the preset `small`.
        path: where the AN4 corpus lies; None takes noise.
        threads: of the engine.
        seed: of order, chunks and snapshots.
        progress: called with status lines.

    Returns:
        Rows: memory and transcripts over time. Ratios: ``audio/time``, how much faster than real time;
        ``unchanged/transcripts``, 1 if nothing changed, absent if no recording was decoded to its end;
        ``memory:before/last_quarter``, 1 or more if nothing grew.

    Raises:
        ConfigError: no time, or no streams.
        CspbenchError: a model or a corpus that cannot be read.
    """
    if hours <= 0 or streams < 1:
        raise ConfigError(f"soak: hours and streams have to be positive, got {hours:g} and {streams}")
    task = make_decoding(model, path)
    recogniser = Recogniser(task.packed or pack_model(task.recogniser), threads)
    soak = _Soak(recogniser, task.audio.utterances, streams, seed)
    progress(f"first pass done: {len(soak.expected)} recordings, {sum(map(len, soak.expected))} labels")
    rows: list[dict[str, Any]] = []
    process, began = psutil.Process(), time.perf_counter()
    for reading in range(1, READINGS + 1):
        while soak.tally.seconds < hours * 3600 * reading / READINGS:
            soak.advance()
        soak.tally.memory.append((soak.tally.seconds, process.memory_info().rss))
        rows.append(_row(soak.tally, time.perf_counter() - began))
        if reading % 10 == 0:
            row = rows[-1]
            progress(f"{row['audio_s']:.0f} s of audio in {row['time_s']:.0f} s, {row['memory_mb']:.1f} MB")
    elapsed = time.perf_counter() - began
    return Benchmark(rows, _ratios(soak.tally, elapsed), _protocol(task, recogniser, soak.tally, streams, elapsed))


def _row(tally: Tally, elapsed: float) -> dict[str, Any]:
    seconds, size = tally.memory[-1]
    return {
        "audio_s": round(seconds, 1),
        "time_s": round(elapsed, 3),
        "memory_mb": size / 1e6,
        "transcripts": tally.transcripts,
        "changed": len(tally.changed),
        "saved": tally.saved,
    }


def _alone(recogniser: Recogniser, samples: Samples) -> list[int]:
    stream = recogniser.stream()
    stream.accept(samples)
    stream.finish()
    return stream.labels


class _Soak:
    """All streams, and what has happened to them."""

    def __init__(self, recogniser: Recogniser, audio: Sequence[Samples], streams: int, seed: int) -> None:
        self.recogniser = recogniser
        self.audio = audio
        self.expected = [_alone(recogniser, samples) for samples in audio]
        self.rng = random.Random(seed)  # noqa: S311
        self.rate = recogniser.sample_rate
        self.playbacks = [Playback(recogniser.stream(), self.rng.randrange(len(audio))) for _ in range(streams)]
        self.tally = Tally()

    def advance(self) -> None:
        """Decode a chunk in every stream, either all in one call or one after the other."""
        chunks = [self._next_chunk(playback) for playback in self.playbacks]
        if self.rng.random() < TOGETHER:
            self.recogniser.advance([playback.stream for playback in self.playbacks], chunks)
        else:
            for playback, chunk in zip(self.playbacks, chunks, strict=True):
                playback.stream.accept(chunk)
        self.tally.seconds += sum(map(len, chunks)) / self.rate
        for playback in self.playbacks:
            if playback.position == len(self.audio[playback.recording]):
                self._end(playback)
            elif self.rng.random() < SAVED:
                self._move(playback)

    def _next_chunk(self, playback: Playback) -> Samples:
        start = playback.position
        samples = self.audio[playback.recording]
        playback.position = min(len(samples), start + self.rng.randint(1, int(LONGEST_CHUNK * self.rate)))
        return samples[start : playback.position]

    def _end(self, playback: Playback) -> None:
        playback.stream.finish()
        self.tally.transcripts += 1
        if playback.stream.labels != self.expected[playback.recording]:
            self.tally.changed.append((round(self.tally.seconds), playback.recording))
        playback.stream.reset()
        playback.recording, playback.position = self.rng.randrange(len(self.audio)), 0

    def _move(self, playback: Playback) -> None:
        fresh = self.recogniser.stream()
        fresh.restore(playback.stream.snapshot())
        playback.stream = fresh
        self.tally.saved += 1


def _ratios(tally: Tally, elapsed: float) -> dict[str, float]:
    settled, last = _parts(tally)
    found = {"audio/time": tally.seconds / elapsed, "memory:before/last_quarter": max(settled) / max(last)}
    if tally.transcripts:
        found["unchanged/transcripts"] = 1 - len(tally.changed) / tally.transcripts
    return found


def _parts(tally: Tally) -> tuple[list[int], list[int]]:
    """Readings of memory between settling and the last quarter, and those of the last quarter."""
    sizes = [size for _, size in tally.memory]
    first, last = int(SETTLED * len(sizes)), int(0.75 * len(sizes))
    return sizes[first:last], sizes[last:]


def _growth(tally: Tally) -> float:
    """Bytes an hour of audio: the slope of memory after settling."""
    readings = tally.memory[int(SETTLED * len(tally.memory)) :]
    hours, sizes = [seconds / 3600 for seconds, _ in readings], [float(size) for _, size in readings]
    return statistics.linear_regression(hours, sizes).slope


def _protocol(task: Decoding, recogniser: Recogniser, tally: Tally, streams: int, elapsed: float) -> dict[str, Any]:
    return machine() | {
        "recogniser": str(task),
        "engine": "native" if recogniser.native else "torch CSR: the native module is not installed",
        "audio_hours": round(tally.seconds / 3600, 3),
        "seconds": round(elapsed, 1),
        "streams": streams,
        "transcripts": tally.transcripts,
        "changed": len(tally.changed),
        "changed_at": [{"audio_s": at, "recording": index} for at, index in tally.changed[:20]],
        "saved_and_restored": tally.saved,
        "growth_bytes_per_audio_hour": round(_growth(tally)),
        "highest_mb": {"settled": max(_parts(tally)[0]) / 1e6, "last_quarter": max(_parts(tally)[1]) / 1e6},
        "audio/time": "seconds of audio of all streams together over seconds",
        "unchanged": "of the transcripts, those with the labels of the first pass: alone, in one chunk",
        "memory": f"resident; the first {SETTLED:.0%} of the readings do not count",
        "chunks": f"1 sample to {LONGEST_CHUNK} s; {TOGETHER:.0%} of the rounds advance all streams in one call",
    }
