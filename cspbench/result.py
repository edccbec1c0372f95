"""What a trial found out: plain data, written once as ``result.json``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cspbench.hyper import Frozen


class WordErrors(Frozen):
    """Errors of a corpus: edits over reference words, with a 95 % bootstrap interval over utterances.

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
    """How long the first label takes, medians over utterances that have one, in milliseconds.

    Attributes:
        audio_ms: audio that had to be heard: from its start to the end of the piece that brought the label. A property
            of the recogniser, not of its speed.
        work_ms: from handing over that piece until the label was there.
        since_start_ms: from the start of the audio until the label was there, had the audio come in real time: pieces
            wait for their end, and for the work on those before.
        utterances: how many had a label.
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
        peak: most that the process held at a time (resident), interpreter, libraries and loading included; None where
            it was not measured.
        before: what it held before the model was loaded.
    """

    weights: int
    state: int
    peak: int | None = None
    before: int | None = None


class Latency(Frozen):
    """Streaming latency of one engine, in milliseconds a model step; `rtf` is seconds of work per second of audio.

    What older results lack has a default.

    Attributes:
        steps: that were measured, all repetitions together.
        median: `median_ms` with its interval.
        finish_ms: from handing over the last piece of audio, at most one step, until the last label is there (median).
        labels: emitted in one repetition.
        step_bytes: bytes of weights read in a step, on average with the labels emitted: counted, not measured.
        engine: what ran, in words.
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
    engine: str = ""


Verdict = Literal["quiet", "noisy", "throttled"]


class Noise(Frozen):
    """Whether a measurement can tell anything, and what was seen that disturbed it.

    Attributes:
        conclusive: nothing below speaks against believing the numbers.
        verdict: ``throttled`` if a CPU quota stopped the process, ``noisy`` for other reasons, else ``quiet``; None in
            results of earlier versions.
        reasons: what does, in words.
        figures: resolution and overhead of the clock, spread of a loop of constant work, shares of the processors' time
            that others took.
        same: A/A: what comes out when an engine takes part twice; 1 without noise.
    """

    conclusive: bool
    verdict: Verdict | None = None
    reasons: list[str] = Field(default_factory=list)
    figures: dict[str, float] = Field(default_factory=dict)
    same: Interval | None = None


class Measured(Frozen):
    """Engines measured in turns in one process.

    Attributes:
        engines: by name.
        ratios: ``a/b`` -> time of a over that of b, medians of paired blocks: b is so many times faster.
        noise: whether to believe it.
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

    def details(self) -> dict[str, float]:
        """What earlier versions did not measure, flat, as far as it is there: tail, interval, bytes, other engines."""
        packed, median, first = self.packed, self.packed.median, self.packed.first_token
        numbers = {
            "latency_p99_ms": packed.p99_ms,
            "latency_low_ms": None if median is None else median.low,
            "latency_high_ms": None if median is None else median.high,
            "first_token_ms": None if first is None else first.work_ms,
            "finish_ms": packed.finish_ms,
            "step_bytes": packed.step_bytes,
        }
        others = {f"{n}_latency_ms": self.engines[n].median_ms for n in ("int8", "torch") if n in self.engines}
        return {name: number for name, number in numbers.items() if number is not None} | others


class TrialResult(Frozen):
    """Outcome of a trial. Select on `dev`; report `test`.

    `sparsity` is counted on the saved weights; sizes are bytes of the serialised model, dense and packed. Of `seconds`,
    `overhead_seconds` were spent outside training, evaluation and latency measurement.
    """

    trial_id: str
    dense_id: str
    method: str
    sparsity_requested: float
    sparsity: float
    layer_sparsity: dict[str, float]
    seed: int
    dev: WordErrors
    test: WordErrors
    dense_dev: WordErrors
    dense_test: WordErrors
    latency: LatencyReport
    size_bytes: int
    dense_size_bytes: int
    steps: int
    train_seconds: float
    seconds: float
    overhead_seconds: float = 0.0
    device: str
    synthetic: bool
