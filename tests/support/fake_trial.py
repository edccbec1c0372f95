"""Stands in for `run_trial` and `train_dense`: the same folders and results, at once, and misbehaving on demand.

There is one way of replacing training in a test: the fixture `fake_trials`, or in a process of its own `install`. Call
the fixture with another function to put that in the place of `run_trial`.

Its one evaluation has a dev loss that grows with the hyperparameter ``damping``.

Sparsities with a meaning: 0.13 raises, 0.17 kills its process every time, 0.19 kills it the first time, 0.23 hangs,
0.29 trains until it is asked to stop. A file
``kill-after`` in the store's root holds the number of trials after which the process is killed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_studies import result

from cspbench.errors import PruningError
from cspbench.machine import stop
from cspbench.result import TrialResult
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, naming, write_json, write_jsonl
from cspbench.training.events import Event, Listener, silent
from cspbench.trials import executors, run
from cspbench.trials.records import read_result

WER = {"control": 0.04, "csp": 0.05, "lottery": 0.07, "magnitude": 0.08, "movement": 0.06}


def run_trial(spec: TrialSpec, store: Store, *, device: str = "auto", progress: Listener = silent) -> TrialResult:
    folder = store.trial(spec.id)
    if folder.finished:
        return read_result(folder)
    assert store.dense(spec.dense.id).finished, "the dense model comes first"
    _count(store.root / "trials.log", spec.id)
    progress(Event("prune", 1, 2, metrics={"loss": 1.0}))
    _misbehave(spec, store)
    wer = round(WER[spec.method.name] + spec.sparsity / 10 + spec.seed / 1000, 6)
    loss = wer + spec.method.params.get("damping", 0)
    progress(Event("prune", 1, 2, evaluation={"step": 1, "epoch": 1.0, "dev_wer": wer, "dev_loss": loss}))
    write_json(folder.spec, spec.model_dump(mode="json"))
    rows = [{"step": i, "epoch": i // 10, "loss": 1 / (i + 1), "learning_rate": 0.1} for i in range(40)]
    rows[-1] |= {"dev_wer": 0.1, "sparsity": spec.sparsity}
    write_jsonl(folder.curve, rows)
    losses = [{"step": i + 1, "loss": 1 / (i + 1), "learning_rate": 0.1, "gradient_norm": 2.0} for i in range(40)]
    write_jsonl(folder.steps, losses)
    heard = {"id": "u1", "reference": "one two", "hypothesis": "one too", "edits": 1, "words": 2}
    write_jsonl(folder.hypotheses, [heard])
    folder.clip(0).write_bytes(b"audio")
    folder.weights.write_bytes(b"weights")
    write_json(folder.model, {})
    outcome = result(spec, wer, dev=wer + 0.01)
    write_json(folder.result, outcome.model_dump(mode="json"))
    progress(Event("evaluate", 2, 2))
    return outcome


def train_dense(spec: DenseSpec, store: Store, *, device: str = "auto", progress: Listener = silent) -> None:
    if not store.dense(spec.id).finished:
        _count(store.root / "dense.log", spec.id)
        write_json(store.dense(spec.id).result, {})


def calls(root: Path, kind: str = "trials") -> list[str]:
    """Ids of the trials (or dense recognisers) that were run, in order."""
    path = root / f"{kind}.log"
    return path.read_text().split() if path.exists() else []


def install() -> None:
    """Replace training in this process, for good."""
    vars(run).update(run_trial=run_trial, train_dense=train_dense)


def serve(*args: Any) -> None:
    """Main function of a worker process in which training is replaced."""
    install()
    executors.serve(*args)


@pytest.fixture
def fake_trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., TrialResult]], None]:
    """Replace training, here and in worker processes; returns a function that replaces `run_trial` by another, here."""

    def replace(function: Callable[..., TrialResult]) -> None:
        monkeypatch.setattr(run, "run_trial", function)

    replace(run_trial)
    monkeypatch.setattr(run, "train_dense", train_dense)
    monkeypatch.setattr(executors, "serve", serve)
    return replace


def _count(path: Path, id: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a") as file:
        file.write(f"{id}\n")


def _misbehave(spec: TrialSpec, store: Store) -> None:
    limit = store.root / "kill-after"
    tried = calls(store.root).count(spec.id)
    if spec.sparsity == 0.13:
        raise PruningError("thirteen is not possible")
    if spec.sparsity == 0.23:
        time.sleep(600)
    if spec.sparsity == 0.29 and tried == 1:
        for _ in range(6000):
            stop.check()
            time.sleep(0.01)
    if spec.sparsity == 0.17 or (spec.sparsity == 0.19 and tried == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if limit.exists() and len(calls(store.root)) > int(limit.read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
