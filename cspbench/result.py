"""What a trial found out: plain data, written once as ``result.json``."""

from __future__ import annotations

from typing import Any

from cspbench.hyper import Frozen


class WordErrors(Frozen):
    """Corpus word error rate: edits over reference words, with a 95 % bootstrap interval over utterances.

    `wer`, `low` and `high` are fractions (0.05 is 5 %).
    """

    wer: float
    low: float
    high: float
    edits: int
    words: int
    utterances: int


class Latency(Frozen):
    """Streaming latency of one engine, in milliseconds a model step; `rtf` is seconds of work per second of audio."""

    median_ms: float
    p95_ms: float
    rtf: float
    steps: int


class LatencyReport(Frozen):
    """Dense and packed weights measured alternately in one process.

    `protocol` says device, processor, threads, dtype, batch, seconds of audio, warm-up, repeats and kind of execution.
    """

    packed: Latency
    dense: Latency
    protocol: dict[str, Any]


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
