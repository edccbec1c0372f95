"""Writes small studies to disk through the real models, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cspbench.result import Latency, LatencyReport, TrialResult, WordErrors
from cspbench.spec import CorpusSpec, DenseSpec, MethodSpec, TrainSpec, TrialSpec
from cspbench.store import Store, write_json, write_jsonl
from cspbench.trials.records import TrialLog, TrialStatus

WORDS = 5
REFERENCE = "one two three four five"
COST = {"csp": 1.0, "magnitude": 1.6, "movement": 1.9, "lottery": 1.3}
PROTOCOL = {
    "device": "cpu",
    "processor": "a test",
    "threads": 1,
    "dtype": "float32",
    "batch": 1,
    "audio_seconds": 20.0,
    "warmup": 1,
    "repeats": 5,
    "execution": "packed CSR",
}


def spec(
    method: str = "csp",
    sparsity: float = 0.9,
    seed: int = 0,
    corpus: str = "fsdd",
    params: dict[str, Any] | None = None,
) -> TrialSpec:
    """A trial that no test runs."""
    return TrialSpec(
        dense=DenseSpec(corpus=CorpusSpec(name=corpus)),
        method=MethodSpec(name=method, params=params or {}),
        sparsity=sparsity,
        training=TrainSpec(epochs=2),
        seed=seed,
    )


def word_errors(wer: float, spread: float = 0.3, utterances: int = 60) -> WordErrors:
    """Errors at a rate, with an interval of plus and minus `spread` of it."""
    words = utterances * WORDS
    return WordErrors(
        wer=wer,
        low=wer * (1 - spread),
        high=wer * (1 + spread),
        edits=round(wer * words),
        words=words,
        utterances=utterances,
    )


def result(trial: TrialSpec, wer: float, dev: float | None = None, dense: float = 0.02, **changes: Any) -> TrialResult:
    """A plausible outcome: latency and size fall with the density."""
    density = 1 - trial.sparsity
    packed = 0.1 + 1.1 * density
    values = {
        "trial_id": trial.id,
        "dense_id": trial.dense.id,
        "method": trial.method.name,
        "sparsity_requested": trial.sparsity,
        "sparsity": trial.sparsity,
        "layer_sparsity": {"encoder.weight_ih_l0": trial.sparsity, "joint.output.weight": trial.sparsity},
        "seed": trial.seed,
        "dev": word_errors(wer if dev is None else dev),
        "test": word_errors(wer),
        "dense_dev": word_errors(dense),
        "dense_test": word_errors(dense),
        "latency": LatencyReport(
            packed=Latency(
                median_ms=packed,
                p95_ms=packed * 1.2,
                rtf=packed / 30,
                steps=700,
                file_bytes=round(7e6 * (0.05 + 1.5 * density)),
                engine="native (fake), 6 x csr16 fp32",
            ),
            dense=Latency(median_ms=0.8, p95_ms=0.9, rtf=0.8 / 30, steps=700, file_bytes=7_000_000),
            protocol=PROTOCOL,
        ),
        "size_bytes": round(7e6 * (0.04 + 1.2 * density)),
        "dense_size_bytes": 7_000_000,
        "steps": 240,
        "train_seconds": 31.5,
        "seconds": 40.0,
        "device": "cpu",
        "synthetic": False,
    }
    return TrialResult.model_validate(values | changes)


def record(
    store: Store, study: str, trial: TrialSpec, state: TrialStatus = "complete", error: str | None = None
) -> None:
    """Append a line to the study's list of trials."""
    log = TrialLog(store.study(study).trials)
    log.write(trial, state, error, number=len(log.records()))


def finish(store: Store, study: str, trial: TrialSpec, outcome: TrialResult) -> None:
    """Write what a finished trial leaves behind, and record it."""
    folder = store.trial(trial.id)
    write_json(folder.spec, trial.model_dump(mode="json"))
    write_json(folder.result, outcome.model_dump(mode="json"))
    write_jsonl(folder.hypotheses, hypotheses(trial, outcome))
    dev = outcome.dev.wer
    curve = [
        {"step": 10 * i, "epoch": i, "loss": 2 / (i + 1), "dev_wer": dev + 0.5 / (i + 1), "sparsity": i / 10}
        for i in range(6)
    ]
    write_jsonl(folder.curve, curve)
    record(store, study, trial)


def write_study(
    root: Path,
    name: str = "demo",
    methods: Sequence[str] = tuple(COST),
    sparsities: Sequence[float] = (0.5, 0.75, 0.9),
    seeds: Sequence[int] = (0, 1, 2),
    **changes: Any,
) -> Store:
    """A whole study: WER grows with sparsity, by method, with a little noise between seeds."""
    store = Store(root)
    rng = np.random.default_rng(7)
    for method in methods:
        for sparsity in sparsities:
            for seed in seeds:
                trial = spec(method, sparsity, seed, params={"strength": 0.5})
                wer = 0.02 + 0.02 * COST.get(method, 1.5) * (1 / (1 - sparsity)) ** 0.8 * rng.uniform(0.85, 1.15)
                finish(store, name, trial, result(trial, float(wer), **changes))
    return store


def hypotheses(trial: TrialSpec, outcome: TrialResult) -> list[dict[str, Any]]:
    """One line an utterance, edits adding up to the result's."""
    rng = np.random.default_rng(outcome.test.edits)
    edits = np.bincount(rng.integers(0, outcome.test.utterances, outcome.test.edits), minlength=outcome.test.utterances)
    return [
        {
            "id": f"u{index:03d}",
            "speaker": f"s{index % 6}",
            "reference": REFERENCE,
            "hypothesis": " ".join(["<wrong>"] * int(count) + REFERENCE.split()[int(count) :]),
            "edits": int(count),
            "words": WORDS,
        }
        for index, count in enumerate(edits)
    ]
