"""Latency, measured: dense and packed weights take turns in one process, on one set of pinned processors."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import Tokenizer
from cspbench.corpora.base import Utterance
from cspbench.corpora.features import read_audio
from cspbench.result import Latency, LatencyReport
from cspbench.runtime.streaming import StreamingRecogniser, Weights
from cspbench.spec import FeatureSpec, LatencySpec


def measure_latency(
    dense: Transducer,
    pruned: Transducer,
    tokenizer: Tokenizer,
    features: FeatureSpec,
    sample_rate: int,
    utterances: Sequence[Utterance],
    spec: LatencySpec,
) -> LatencyReport:
    """Stream the same audio through the dense and the pruned, packed recogniser in turns.

    A measurement is the time from handing over the audio of one model step (30 ms with the default features) until its
    labels are known, feature extraction included.

    Args:
        dense: the recogniser before pruning, run on dense weights.
        pruned: the recogniser after pruning, run on CSR weights.
        tokenizer: units of both.
        features: front end of both.
        sample_rate: Hz.
        utterances: what is streamed; the first `spec.utterances` of them.
        spec: threads, warm-up and repetitions.
    """
    audio = [read_audio(u.audio, u.origin)[0] for u in utterances[: spec.utterances]]
    kinds: list[Weights] = ["dense", "csr"]
    models = dict(zip(kinds, (dense, pruned), strict=True))
    engines = {k: StreamingRecogniser(m, tokenizer, features, sample_rate, weights=k) for k, m in models.items()}
    times: dict[Weights, list[float]] = {k: [] for k in kinds}
    work: dict[Weights, float] = dict.fromkeys(kinds, 0.0)
    with pinned(spec.threads) as processors:
        for repeat in range(spec.warmup + spec.repeats):
            for index, samples in enumerate(audio):
                # Who goes first changes, so that neither engine always finds the other's cache.
                for kind in kinds if (repeat + index) % 2 else reversed(kinds):
                    steps, seconds = _stream(engines[kind], samples)
                    if repeat >= spec.warmup:
                        times[kind] += steps
                        work[kind] += seconds
    heard = sum(len(a) for a in audio) / sample_rate
    protocol = _protocol(spec, processors, heard, len(audio), engines["csr"].step_samples / sample_rate)
    summaries = {k: _summary(times[k], work[k] / (heard * spec.repeats)) for k in kinds}
    return LatencyReport(packed=summaries["csr"], dense=summaries["dense"], protocol=protocol)


def _stream(engine: StreamingRecogniser, samples: np.ndarray) -> tuple[list[float], float]:
    """Seconds of every model step, and of the utterance in all."""
    engine.reset()
    size = engine.step_samples
    times = []
    began = time.perf_counter()
    for start in range(0, len(samples), size):
        before = time.perf_counter()
        if engine.accept(samples[start : start + size]) == 1:  # the first piece may not fill a window yet
            times.append(time.perf_counter() - before)
    return times, time.perf_counter() - began


def _summary(seconds: list[float], rtf: float) -> Latency:
    milliseconds = np.asarray(seconds) * 1000
    return Latency(
        median_ms=float(np.median(milliseconds)),
        p95_ms=float(np.quantile(milliseconds, 0.95)),
        rtf=rtf,
        steps=len(seconds),
    )


def _protocol(spec: LatencySpec, processors: list[int], heard: float, utterances: int, step: float) -> dict[str, Any]:
    return {
        "device": "cpu",
        "processor": processor_name(),
        "processors": processors,
        "threads": spec.threads,
        "dtype": "fp32",
        "batch": 1,
        "audio_seconds": round(heard, 3),
        "utterances": utterances,
        "step_ms": round(step * 1000, 3),
        "warmup": spec.warmup,
        "repeats": spec.repeats,
        "execution": "streaming, one model step at a time, feature extraction included; torch eager",
        "packed": "torch CSR, 32-bit indices",
        "dense": "torch dense",
        "interleaved": True,
        # Other work on the machine blurs absolute times; the ratio of interleaved engines suffers less.
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
    }


def processor_name() -> str:
    """The processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.machine())


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Run with so many torch threads, tied to as many processors where the system can; yields those processors."""
    before = torch.get_num_threads()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    chosen = allowed[-threads:]
    torch.set_num_threads(threads)
    if chosen:
        os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        if chosen:
            os.sched_setaffinity(0, allowed)
        torch.set_num_threads(before)
