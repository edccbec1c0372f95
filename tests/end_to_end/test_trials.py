"""Whole trials on real speech: every registered method prunes a trained recogniser and everything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cspbench.asr.speech_model import prunable_weights
from cspbench.errors import ConfigError, PruningError
from cspbench.pruning.registry import pruning_names
from cspbench.spec import CorpusSpec, DenseSpec, FeatureSpec, LatencySpec, MethodSpec, ModelSpec, TrainSpec, TrialSpec
from cspbench.store import Store
from cspbench.training.checkpoint import load_model
from cspbench.training.events import Event
from cspbench.trials.run import run_trial, train_dense

SPARSITY = 0.6


@pytest.fixture(scope="module")
def dense(fsdd_path: Path) -> DenseSpec:
    """A recogniser so small that a few seconds teach it something."""
    return DenseSpec(
        corpus=CorpusSpec(
            name="fsdd",
            path=str(fsdd_path),
            options={"train": 240, "dev": 20, "test": 20, "min_digits": 1, "max_digits": 2},
        ),
        features=FeatureSpec(mels=24, stack=4),
        model=ModelSpec(preset="tiny", encoder_layers=2, encoder_width=64, dropout=0.0),
        training=TrainSpec(epochs=4, batch_size=12, learning_rate=6e-3, ctc_weight=1.0),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs"))


def trial(dense: DenseSpec, name: str, sparsity: float = SPARSITY, **changes: object) -> TrialSpec:
    training = TrainSpec(epochs=1, batch_size=12, learning_rate=1e-3)
    latency = LatencySpec(utterances=2, warmup=0, repeats=1)
    spec = {"dense": dense, "method": MethodSpec(name=name), "sparsity": sparsity, "training": training}
    return TrialSpec.model_validate(spec | {"latency": latency} | changes)


def test_the_dense_recogniser_learns_and_is_trained_once(dense: DenseSpec, store: Store) -> None:
    events: list[Event] = []
    first = train_dense(dense, store, progress=events.append)
    curve = [json.loads(line) for line in store.dense(dense.id).curve.read_text().splitlines()]
    assert first.steps == 80
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert first.test.utterances == 20
    assert {p.name for p in store.dense(dense.id).path.glob("snapshot-*")} == {
        f"snapshot-{share:04d}.safetensors" for share in (0, 50, 100, 250, 500)
    }
    heard = len(events)
    assert train_dense(dense, store, progress=events.append) == first
    assert len(events) == heard


@pytest.mark.parametrize("name", pruning_names())
def test_every_method_prunes_a_real_recogniser(name: str, dense: DenseSpec, store: Store) -> None:
    spec = trial(dense, name)
    result = run_trial(spec, store)
    model = load_model(store.trial(spec.id).path).model
    weights = prunable_weights(model)
    total = sum(w.numel() for w in weights.values())
    zeros = {n: int((w == 0).sum()) for n, w in weights.items()}
    assert sum(zeros.values()) == round(SPARSITY * total)
    assert result.sparsity == sum(zeros.values()) / total
    assert result.layer_sparsity == {n: zeros[n] / w.numel() for n, w in weights.items()}
    assert result.size_bytes < result.dense_size_bytes
    assert result.latency.packed.steps == result.latency.dense.steps > 0
    assert result.trial_id == spec.id
    assert not result.synthetic
    rows = [json.loads(line) for line in store.trial(spec.id).hypotheses.read_text().splitlines()]
    assert sum(r["edits"] for r in rows) == result.test.edits
    assert [r["reference"] for r in rows] != [""] * 20
    assert not store.trial(spec.id).checkpoint.exists()


def test_a_finished_trial_is_read_back(dense: DenseSpec, store: Store) -> None:
    first = run_trial(trial(dense, "magnitude"), store)
    events: list[Event] = []
    assert run_trial(trial(dense, "magnitude"), store, progress=events.append) == first
    assert events == []


def test_sparsity_zero_is_plain_further_training(dense: DenseSpec, store: Store) -> None:
    result = run_trial(trial(dense, "magnitude", 0.0), store)
    assert result.sparsity == 0
    assert result.size_bytes == result.dense_size_bytes


def test_only_what_is_prunable_is_pruned(dense: DenseSpec, store: Store) -> None:
    spec = trial(dense, "magnitude", 0.5, prunable=("encoder.*",))
    result = run_trial(spec, store)
    model = load_model(store.trial(spec.id).path).model
    pruned = {n for n, w in prunable_weights(model).items() if (w == 0).any()}
    assert pruned == set(result.layer_sparsity) == {n for n in prunable_weights(model) if n.startswith("encoder.")}
    assert result.sparsity == pytest.approx(0.5, abs=1e-4)


def test_what_cannot_be_done_is_said(dense: DenseSpec, store: Store) -> None:
    with pytest.raises(ConfigError, match="unknown pruning method 'magnitud'; did you mean 'magnitude'"):
        run_trial(trial(dense, "magnitud"), store)
    with pytest.raises(ConfigError, match="no_such_option"):
        run_trial(trial(dense, "csp", method=MethodSpec(name="csp", params={"no_such_option": 1})), store)
    with pytest.raises(PruningError, match="nothing is prunable"):
        run_trial(trial(dense, "csp", prunable=("nothing.*",)), store)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_trial_runs_on_cuda(precision: str, dense: DenseSpec, tmp_path: Path) -> None:
    training = TrainSpec(epochs=1, batch_size=12, learning_rate=1e-3, precision=precision)
    result = run_trial(trial(dense, "csp", training=training), Store(tmp_path), device="cuda")
    assert result.device != "cpu"
    assert result.sparsity == pytest.approx(SPARSITY, abs=1e-4)
