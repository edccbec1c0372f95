"""Outcome of a trial: plain data, written once as ``result.json``, and its flat metrics.

`METRICS` is the one vocabulary of tables, CSV, MLflow and JSON. Fields that results of earlier versions lack have a
default; what a result does not hold is absent from its metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from cspbench.hyper import Frozen


class WordErrors(Frozen):
    """Errors of a corpus: edits over reference words, with a 95 % bootstrap interval.

    The interval draws whole `speakers`; utterances where that is None: few speakers are known, or the result is older.

    `wer`, `low`, `high` and the character error rate `cer` are fractions (0.05 is 5 %). `substitutions`, `deletions`
    and `insertions` of words add up to `edits`. `loss` is the transducer loss in nats, summed over utterances and
    divided by the labels of all. Results of schema version 1 have none of these but the WER.
    """

    wer: float
    low: float
    high: float
    edits: int
    words: int
    utterances: int
    speakers: int | None = None
    substitutions: int | None = None
    deletions: int | None = None
    insertions: int | None = None
    cer: float | None = None
    loss: float | None = None


class Interval(Frozen):
    """A measured number with its 95 % bootstrap interval over `units` blocks or pairs."""

    value: float
    low: float
    high: float
    units: int


class TimeRatio(Interval):
    """Time of one engine over that of another; `verdict` is on the second.

    It is undecided unless the interval excludes 1, and the ratio lies further from 1 than the interval of an engine's
    ratio to itself reaches.
    """

    verdict: Literal["faster", "slower", "undecided"]


class FirstToken(Frozen):
    """Time until the first label, medians over utterances that have one, in milliseconds.

    Attributes:
        audio_ms: audio that the label needs: from its start to the end of the chunk that brought the label. A property
            of the recogniser, not of its speed.
        work_ms: from handing over that chunk until the label was there.
        since_start_ms: from the start of the audio until the label was there, had the audio come in real time: chunks
            wait for their end, and for the work on those before.
        utterances: number of utterances that had a label.
    """

    audio_ms: float
    work_ms: float
    since_start_ms: float
    utterances: int


class Memory(Frozen):
    """Memory of one engine in bytes. `weights` and `state` are counted exactly, the rest is of a process of its own.

    Attributes:
        weights: all it keeps of the model.
        state: what one stream carries from step to step.
        peak: maximum resident memory of the process, interpreter, libraries and loading included; None where it was
            not measured.
        before: resident memory before the model was loaded.
    """

    weights: int
    state: int
    peak: int | None = None
    before: int | None = None


class Latency(Frozen):
    """Streaming latency of one engine, in milliseconds a model step, and the size of the file that was timed.

    Attributes:
        median_ms: median over steps.
        p95_ms: 95th percentile.
        rtf: seconds of work per second of audio.
        steps: number of steps measured, all repetitions together.
        p99_ms: 99th percentile.
        median: `median_ms` with its interval; None for a single repetition.
        finish_ms: from handing over the last chunk of audio, at most one step, until the last label is there (median).
        labels: emitted in one repetition.
        step_bytes: bytes of weights read in a step, on average with the labels emitted: counted, not measured.
        memory: bytes held by the engine.
        file_bytes: bytes of the packed file that ran; None for engines that run none.
        engine: the engine and its formats, in words.
    """

    median_ms: float
    p95_ms: float
    rtf: float
    steps: int
    p99_ms: float | None = None
    median: Interval | None = None
    first_token: FirstToken | None = None
    finish_ms: float | None = None
    labels: int | None = None
    step_bytes: float | None = None
    memory: Memory | None = None
    file_bytes: int | None = None
    engine: str = ""


Verdict = Literal["quiet", "noisy", "throttled"]


class Noise(Frozen):
    """Verdict on a measurement, and what was seen that disturbed it.

    Attributes:
        conclusive: True if nothing below speaks against believing the numbers.
        verdict: ``throttled`` if a CPU quota stopped the process, ``noisy`` for other reasons, else ``quiet``; None in
            results of earlier versions.
        reasons: what does, in words.
        figures: resolution and overhead of the clock, spread of a loop of constant work, fractions of the processors'
            time that others took.
        same: A/A: ratio of an engine to itself; 1 without noise.
    """

    conclusive: bool
    verdict: Verdict | None = None
    reasons: list[str] = Field(default_factory=list)
    figures: dict[str, float] = Field(default_factory=dict)
    same: Interval | None = None


class Measured(Frozen):
    """Engines measured alternately in one process.

    Attributes:
        engines: by name.
        ratios: ``a/b`` -> time of a over that of b, medians of paired blocks: b is so many times faster. Empty for a
            single repetition.
        noise: verdict on the measurement.
        protocol: device, processor, threads, batch, seconds of audio, warm-up, repeats and kind of execution.
    """

    engines: dict[str, Latency]
    ratios: dict[str, TimeRatio]
    noise: Noise
    protocol: dict[str, Any]


class LatencyReport(Frozen):
    """Dense and packed weights measured alternately in one process, and the other engines that took part.

    `protocol` says device, processor, threads, dtype, batch, seconds of audio, warm-up, repeats and kind of execution.
    Results of earlier versions know `packed`, `dense` and `protocol` only.
    """

    packed: Latency
    dense: Latency
    protocol: dict[str, Any]
    engines: dict[str, Latency] = Field(default_factory=dict)
    ratios: dict[str, TimeRatio] = Field(default_factory=dict)
    noise: Noise | None = None


class TrialResult(Frozen):
    """Outcome of a trial. Select on `dev`; report `test`.

    Attributes:
        sparsity: fraction of zeros among the prunable weights, counted on the saved weights.
        layer_sparsity: the same for each matrix.
        test: None if the trial was for selection only; so is `latency`.
        int8_test: word errors on test of the same weights in int8; None where int8 was not decoded.
        size_bytes: bytes of the smallest packed file; the file whose latency was measured is another: see `Latency`. Of
            a recogniser without packed files, bytes of its weights in their smallest formats.
        dense_size_bytes: bytes of the same kind of file, or of the same weights, with every weight in it.
        seconds: of the whole trial; of these, `overhead_seconds` were spent outside training, evaluation and latency
            measurement.
    """

    trial_id: str
    dense_id: str
    method: str
    sparsity_requested: float
    sparsity: float
    layer_sparsity: dict[str, float]
    seed: int
    dev: WordErrors
    test: WordErrors | None
    dense_dev: WordErrors
    dense_test: WordErrors
    int8_test: WordErrors | None = None
    latency: LatencyReport | None
    size_bytes: int
    dense_size_bytes: int
    steps: int
    train_seconds: float
    seconds: float
    overhead_seconds: float = 0.0
    device: str
    synthetic: bool

    def metrics(self) -> dict[str, float]:
        """Return the result as flat numbers, named as in `METRICS`; what it does not hold is left out."""
        found = self._errors() | self._latencies() | self._sizes()
        found |= {name: getattr(self, name) for name in _OWN}
        return {name: float(value) for name in METRICS if (value := found.get(name)) is not None}

    @property
    def formats(self) -> str:
        """Formats of the packed file whose latency was measured, e.g. ``3 x window fp32, 3 x dense fp32``."""
        return "" if self.latency is None else self.latency.packed.engine.partition(", ")[2]

    def _errors(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        splits = {"dev": self.dev, "test": self.test, "dense_dev": self.dense_dev, "dense_test": self.dense_test}
        for name, errors in splits.items():
            if errors is not None:
                found |= {f"{name}_wer": errors.wer, f"{name}_wer_low": errors.low, f"{name}_wer_high": errors.high}
                found |= {f"{name}_cer": errors.cer, f"{name}_loss": errors.loss}
        if self.test is not None:
            for name in ("edits", "substitutions", "deletions", "insertions", "words", "utterances"):
                found[f"test_{name}"] = getattr(self.test, name)
            if self.dense_test.wer > 0:
                found["wer_change"] = self.test.wer / self.dense_test.wer - 1
        if self.int8_test is not None:
            found["int8_wer"] = self.int8_test.wer
        return found

    def _latencies(self) -> dict[str, float | None]:
        report = self.latency
        if report is None:
            return {}
        packed, dense = report.packed, report.dense
        found: dict[str, float | None] = {
            "latency_ms": packed.median_ms,
            "latency_p95_ms": packed.p95_ms,
            "latency_p99_ms": packed.p99_ms,
            "rtf": packed.rtf,
            "finish_ms": packed.finish_ms,
            "step_bytes": packed.step_bytes,
            "dense_latency_ms": dense.median_ms,
            "dense_latency_p95_ms": dense.p95_ms,
            "dense_rtf": dense.rtf,
            "speedup": dense.median_ms / packed.median_ms,
        }
        if packed.median is not None:
            found |= {"latency_low_ms": packed.median.low, "latency_high_ms": packed.median.high}
        if packed.first_token is not None:
            found["first_token_ms"] = packed.first_token.work_ms
        if report.noise is not None:
            found["latency_conclusive"] = report.noise.conclusive
        for name in ("int8", "torch"):
            if name in report.engines:
                found[f"{name}_latency_ms"] = report.engines[name].median_ms
        return found

    def _sizes(self) -> dict[str, float | None]:
        """Bytes of the files that were timed; of the weights alone where the bytes of the files were not recorded."""
        found: dict[str, float | None] = {"smallest_bytes": self.size_bytes, "dense_size_bytes": self.dense_size_bytes}
        if self.latency is None:
            return found
        packed, dense = self.latency.packed, self.latency.dense
        if packed.file_bytes is not None and dense.file_bytes is not None:
            size, dense_size = packed.file_bytes, dense.file_bytes
        elif packed.memory is not None and dense.memory is not None:
            size, dense_size = packed.memory.weights, dense.memory.weights
        else:
            return found
        return found | {"size_bytes": size, "dense_size_bytes": dense_size, "compression": dense_size / size}


@dataclass(frozen=True)
class Metric:
    """A number that a result holds.

    Attributes:
        unit: fraction, ms, bytes, s, times, count or yes/no (1 or 0).
        meaning: in words.
    """

    unit: str
    meaning: str


METRICS = {
    "sparsity": Metric("fraction", "zeros among the prunable weights, counted on the saved weights"),
    "sparsity_requested": Metric("fraction", "zeros that were asked for"),
    "test_wer": Metric("fraction", "word error rate on test: edits over reference words"),
    "test_wer_low": Metric("fraction", "lower end of its 95 % bootstrap interval over speakers, or utterances"),
    "test_wer_high": Metric("fraction", "upper end of its interval"),
    "wer_change": Metric("fraction", "test_wer over dense_test_wer, less one: relative change to the dense recogniser"),
    "dev_wer": Metric("fraction", "word error rate on dev; settings are chosen by it"),
    "dev_wer_low": Metric("fraction", "lower end of its 95 % bootstrap interval over speakers, or utterances"),
    "dev_wer_high": Metric("fraction", "upper end of its interval"),
    "dev_cer": Metric("fraction", "character error rate on dev"),
    "dev_loss": Metric("nats", "transducer loss on dev, a label; settings are chosen by it where dev_wer ties"),
    "test_cer": Metric("fraction", "character error rate on test"),
    "test_loss": Metric("nats", "transducer loss on test, a label"),
    "test_edits": Metric("count", "word edits on test: substitutions, deletions and insertions"),
    "test_substitutions": Metric("count", "substituted words on test"),
    "test_deletions": Metric("count", "deleted words on test"),
    "test_insertions": Metric("count", "inserted words on test"),
    "test_words": Metric("count", "reference words of test"),
    "test_utterances": Metric("count", "utterances of test"),
    "int8_wer": Metric("fraction", "word error rate on test of the same weights in int8, decoded in int8"),
    "latency_ms": Metric("ms", "median time of a model step with the packed file, or in torch where there is none"),
    "latency_low_ms": Metric("ms", "lower end of its 95 % bootstrap interval over blocks"),
    "latency_high_ms": Metric("ms", "upper end of its interval"),
    "latency_p95_ms": Metric("ms", "95th percentile of the time of a step"),
    "latency_p99_ms": Metric("ms", "99th percentile of the time of a step"),
    "latency_conclusive": Metric("yes/no", "1 if the machine was quiet enough to believe the latencies"),
    "rtf": Metric("s/s", "real-time factor: work per second of audio"),
    "speedup": Metric("times", "dense_latency_ms over latency_ms, measured in one process"),
    "first_token_ms": Metric("ms", "from handing over the chunk that brought the first label until it was there"),
    "finish_ms": Metric("ms", "from handing over the last chunk until the last label was there"),
    "step_bytes": Metric("bytes", "weights read in a step, counted"),
    "int8_latency_ms": Metric("ms", "median time of a step with the same weights in int8"),
    "torch_latency_ms": Metric("ms", "median time of a step of the dense recogniser in torch"),
    "size_bytes": Metric(
        "bytes", "packed file whose latency was measured; the weights alone in older results and where there is no file"
    ),
    "compression": Metric("times", "dense_size_bytes over size_bytes"),
    "smallest_bytes": Metric("bytes", "smallest packed file, or weights where there is none; not what was timed"),
    "dense_test_wer": Metric("fraction", "word error rate on test of the dense recogniser"),
    "dense_test_wer_low": Metric("fraction", "lower end of its 95 % bootstrap interval over speakers, or utterances"),
    "dense_test_wer_high": Metric("fraction", "upper end of its interval"),
    "dense_dev_wer": Metric("fraction", "word error rate on dev of the dense recogniser"),
    "dense_dev_wer_low": Metric("fraction", "lower end of its 95 % bootstrap interval over speakers, or utterances"),
    "dense_dev_wer_high": Metric("fraction", "upper end of its interval"),
    "dense_latency_ms": Metric("ms", "median time of a step of the dense recogniser, measured in the same process"),
    "dense_latency_p95_ms": Metric("ms", "95th percentile of the time of its steps"),
    "dense_rtf": Metric("s/s", "its real-time factor"),
    "dense_size_bytes": Metric("bytes", "the same kind of file with every weight in it"),
    "steps": Metric("count", "optimiser steps of the pruning run"),
    "train_seconds": Metric("s", "training time of the pruning run"),
    "seconds": Metric("s", "duration of the trial"),
    "overhead_seconds": Metric("s", "of these, outside training, evaluation and latency measurement"),
}
"""Names, units and meanings of `TrialResult.metrics`."""

_OWN = ("sparsity", "sparsity_requested", "steps", "train_seconds", "seconds", "overhead_seconds")

ALIASES = {"wer": "test_wer"}
"""Second names under which DataFrames and MLflow show a metric too."""
