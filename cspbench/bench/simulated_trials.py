"""SIMULATED trials: invented results, for measurements of the sweep around them. Nothing is trained or measured."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any, Self

from cspbench.machine.cpu import processor_name
from cspbench.result import Latency, LatencyReport, TrialResult, WordErrors
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, write_atomic, write_json, write_jsonl
from cspbench.trials.outcome import Outcome

STEP_SECONDS, STEPS = 0.12, 1500
"""Cost of a trial: a training step of `small` on AN4 on two AVX-512 threads, and steps of 12 epochs there."""

MEASURING = 45.0
"""Seconds of decoding and latency measurement."""

JITTER = 0.2
"""Standard deviation of the logarithm of a trial's seconds."""

UTTERANCES, WORDS = 130, 773
"""Test split of AN4."""

DENSE_WER, DENSE_MS, DENSE_BYTES = 0.06, 0.8, 4_600_000

WEIGHT_BYTES = 10_000
"""Bytes of a simulated weights file: real ones (`DENSE_BYTES`) would fill the disk of a measurement."""


class SimulatedTrials:
    """An executor that SIMULATES trials: it writes their folders, with invented results, and takes no time to train.

    Args:
        store: receives the folders.
        workers: trials that are submitted at a time.

    Attributes:
        seconds: simulated duration of all trials so far.
    """

    def __init__(self, store: Store, workers: int) -> None:
        self.workers, self._store = workers, store
        self._submitted: deque[TrialSpec] = deque()
        self.seconds = 0.0

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        """Do nothing: no simulated trial starts from a dense recogniser."""

    @property
    def free(self) -> int:
        return self.workers - len(self._submitted)

    @property
    def busy(self) -> bool:
        return bool(self._submitted)

    def submit(self, spec: TrialSpec) -> None:
        self._submitted.append(spec)

    def wait(self) -> Outcome:
        spec = self._submitted.popleft()
        result = simulated_result(spec)
        write_trial(self._store, spec, result)
        self.seconds += result.seconds
        return Outcome(spec, result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def simulated_result(spec: TrialSpec) -> TrialResult:
    """Return an invented result: errors grow with the sparsity, size and latency fall; the same for the same spec."""
    chance = random.Random(spec.id)  # noqa: S311 - no secret
    density = 1 - spec.sparsity
    wer = simulated_wer(spec.sparsity, chance)
    packed_ms, bytes_ = DENSE_MS * (0.1 + 0.9 * density), round(DENSE_BYTES * (0.05 + density))
    seconds = STEP_SECONDS * STEPS * chance.lognormvariate(0, JITTER)
    return TrialResult(
        trial_id=spec.id,
        dense_id=spec.dense.id,
        method=spec.method.name,
        sparsity_requested=spec.sparsity,
        sparsity=spec.sparsity,
        layer_sparsity={f"encoder.layers.{i}.weight_{kind}": spec.sparsity for i in range(3) for kind in ("ih", "hh")},
        seed=spec.seed,
        dev=_errors(wer),
        test=_errors(wer * chance.uniform(0.9, 1.1)),
        dense_dev=_errors(DENSE_WER),
        dense_test=_errors(DENSE_WER),
        latency=LatencyReport(
            packed=_latency(packed_ms, bytes_, "simulated, 6 x csr16 fp32"),
            dense=_latency(DENSE_MS, DENSE_BYTES, "simulated"),
            protocol={"device": "SIMULATED", "processor": processor_name(), "threads": 1},
        ),
        size_bytes=bytes_,
        dense_size_bytes=DENSE_BYTES,
        steps=STEPS,
        train_seconds=seconds,
        seconds=seconds + MEASURING,
        device="SIMULATED",
        synthetic=True,
    )


def simulated_wer(sparsity: float, chance: random.Random) -> float:
    """Return an invented WER, which grows with the sparsity."""
    return min(1.0, DENSE_WER + 0.01 / max(1 - sparsity, 0.01) ** 0.8 * chance.uniform(0.8, 1.2))


def _errors(wer: float) -> WordErrors:
    wer = min(1.0, wer)
    return WordErrors(
        wer=wer, low=0.8 * wer, high=min(1.0, 1.2 * wer), edits=round(wer * WORDS), words=WORDS, utterances=UTTERANCES
    )


def _latency(median_ms: float, file_bytes: int, engine: str) -> Latency:
    return Latency(
        median_ms=median_ms, p95_ms=1.2 * median_ms, rtf=median_ms / 30, steps=700, file_bytes=file_bytes, engine=engine
    )


def write_trial(store: Store, spec: TrialSpec, result: TrialResult) -> None:
    """Write the files of a trial, as long as those of a real one but for the weights."""
    folder = store.trial(spec.id)
    assert result.test is not None
    write_json(folder.spec, spec.model_dump(mode="json"))
    epochs = [
        _record(step, result) | {"dev_wer": result.dev.wer, "epoch": step // 125} for step in range(125, 1501, 125)
    ]
    write_jsonl(folder.curve, epochs)
    write_jsonl(folder.steps, (_record(step, result) for step in range(0, STEPS, 10)))
    text = "one two three four five six"
    rows = ({"id": f"u{i}", "reference": text, "hypothesis": text, "edits": 0, "words": 6} for i in range(UTTERANCES))
    write_jsonl(folder.hypotheses, rows)
    write_atomic(folder.weights, bytes(WEIGHT_BYTES))
    write_json(folder.model, {"format": "SIMULATED"})
    write_json(folder.result, result.model_dump(mode="json"))


def _record(step: int, result: TrialResult) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 200 / (step + 10),
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "sparsity": result.sparsity,
    }
