"""Dense recognisers trained several at once. The GPU is pretended; the trainings are real ones, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cspbench.machine import stop
from cspbench.spec import CorpusSpec, DenseSpec, ModelSpec, TrainSpec
from cspbench.store import Store
from cspbench.training.events import Event
from cspbench.trials import dense_ahead
from cspbench.trials.dense_ahead import train_ahead

TINY = {"encoder_layers": 1, "encoder_width": 8, "prediction_layers": 1, "prediction_width": 8, "joint_width": 8}


def specs(corpus: dict[str, Any], epochs: int = 1) -> list[DenseSpec]:
    training, model = TrainSpec(epochs=epochs), ModelSpec(**TINY)
    return [DenseSpec(corpus=CorpusSpec(**corpus), model=model, training=training, seed=seed) for seed in (0, 1)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_ahead, "resolve_device", lambda device: torch.device("cuda"))


def ignore(spec: DenseSpec, event: Event) -> None: ...


def test_all_that_can_be_trained_is_and_the_rest_is_left(gpu: None, corpus: dict[str, Any], store: Store) -> None:
    good, bad = specs(corpus)[0], specs(corpus | {"path": "/nowhere"})[1]
    begun: list[str] = []
    train_ahead([good, bad], 4, store, "cpu", lambda spec, event: begun.append(spec.id))
    assert begun == [good.id, bad.id]
    assert store.dense(good.id).finished
    assert not store.dense(bad.id).finished


def test_nothing_is_done_on_a_cpu_or_for_a_single_one(
    corpus: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_ahead, "_run", lambda *_: pytest.fail("a process was started"))
    train_ahead(specs(corpus), 4, store, "cpu", ignore)
    monkeypatch.setattr(dense_ahead, "resolve_device", lambda device: torch.device("cuda"))
    train_ahead(specs(corpus)[:1], 4, store, "cuda", ignore)
    train_ahead(specs(corpus), 1, store, "cuda", ignore)


def test_a_stop_request_ends_what_has_begun(gpu: None, corpus: dict[str, Any], store: Store) -> None:
    long = specs(corpus, epochs=100_000)
    with stop.stoppable("stopping"), pytest.raises(KeyboardInterrupt):
        train_ahead(long, 2, store, "cpu", lambda spec, event: stop._request())
    assert not any(store.dense(spec.id).finished for spec in long)
