"""Every recogniser but the default one on sixteen spoken digits: it learns them, streams, is pruned and is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_recognisers import SMALL, small

from cspbench.asr.speech_model import prunable_weights
from cspbench.corpora.audio import read_utterance
from cspbench.errors import CspbenchError
from cspbench.result import TrialResult
from cspbench.runtime import extension
from cspbench.runtime.latency.model_engine import ModelEngine, weight_bytes
from cspbench.runtime.packing import pack_model
from cspbench.spec import CorpusSpec, DenseSpec, FeatureSpec, LatencySpec, MethodSpec, TrainSpec, TrialSpec
from cspbench.store import Store
from cspbench.training.checkpoint import load_model
from cspbench.training.evaluate import errors, recognise
from cspbench.training.speech import prepare_speech
from cspbench.trials.run import run_trial

SPARSITY = 0.7
PLAIN = {"frequency_masks": 0, "time_masks": 0, "edges": 0}


@pytest.fixture(scope="module", params=sorted(SMALL))
def dense(request: pytest.FixtureRequest, fsdd_path: Path) -> DenseSpec:
    """A recogniser that sixteen utterances of one digit are trained into by heart."""
    options = {"train": 16, "dev": 4, "test": 4, "min_digits": 1, "max_digits": 1}
    return DenseSpec(
        corpus=CorpusSpec(name="fsdd", path=str(fsdd_path), options=options),
        features=FeatureSpec(mels=24, stack=4),
        model=small(request.param),
        training=TrainSpec(epochs=100, batch_size=8, learning_rate=8e-3, evaluate_every=20, augment=PLAIN),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs"))


def prune(dense: DenseSpec, store: Store, method: str) -> TrialResult:
    spec = TrialSpec(
        dense=dense,
        method=MethodSpec(name=method),
        sparsity=SPARSITY,
        training=TrainSpec(epochs=4, batch_size=8, learning_rate=2e-3, evaluate_every=4, augment=PLAIN),
        latency=LatencySpec(utterances=1, warmup=0, repeats=2),
    )
    result = run_trial(spec, store)
    weights = prunable_weights(load_model(store.trial(spec.id).path).model)
    total, zeros = sum(w.numel() for w in weights.values()), sum(int((w == 0).sum()) for w in weights.values())
    assert zeros == round(SPARSITY * total)
    return result


def test_it_learns_its_training_utterances(dense: DenseSpec, store: Store) -> None:
    prune(dense, store, "magnitude")
    folder = store.dense(dense.id)
    curve = [json.loads(line) for line in folder.curve.read_text().splitlines()]
    assert curve[-1]["loss"] < 0.2 * curve[0]["loss"]
    speech = prepare_speech(dense, store)
    assert errors(recognise(load_model(folder.path).model, speech, "train")).wer <= 0.25


def test_it_streams_to_the_text_of_a_whole_batch(dense: DenseSpec, store: Store) -> None:
    prune(dense, store, "magnitude")
    trained = load_model(store.dense(dense.id).path)
    speech = prepare_speech(dense, store)
    whole = [row.hypothesis for row in recognise(trained.model, speech, "train")]
    engine = ModelEngine("torch", trained)
    for utterance, expected in zip(speech.corpus.split("train"), whole, strict=True):
        engine.reset()
        samples = read_utterance(utterance)
        labels = [
            label for start in range(0, len(samples), 900) for label in engine.accept(samples[start : start + 900])
        ]
        assert speech.tokenizer.decode(labels + engine.finish()) == expected


@pytest.mark.parametrize("method", ["csp", "magnitude"])
def test_it_is_pruned_exactly_and_timed(method: str, dense: DenseSpec, store: Store) -> None:
    result = prune(dense, store, method)
    assert result.size_bytes < result.dense_size_bytes
    assert result.int8_test is None, "nothing decodes it in int8"
    latency = result.latency
    assert latency is not None
    assert latency.packed.steps == latency.dense.steps > 0
    assert result.formats.startswith("no packed file: ")
    trained = load_model(store.dense(dense.id).path)
    assert latency.dense.memory.weights == weight_bytes(trained.model)
    assert result.metrics()["dense_size_bytes"] == latency.dense.memory.weights
    assert result.dense_size_bytes == pytest.approx(weight_bytes(trained.model), rel=0.01)
    assert latency.packed.step_bytes is None


def test_a_packed_file_is_refused_in_a_sentence(dense: DenseSpec, store: Store) -> None:
    prune(dense, store, "magnitude")
    with pytest.raises(CspbenchError, match=f"'{dense.model.name}' has no packed file"):
        pack_model(load_model(store.dense(dense.id).path))


@pytest.mark.skipif(not extension.available(), reason="packed layers need the native module")
def test_the_latency_command_measures_it_in_torch(
    dense: DenseSpec, store: Store, run: Callable[..., tuple[int, str, str]]
) -> None:
    prune(dense, store, "magnitude")
    quick = ("--utterances", 1, "--repeats", 2, "--warmup", 0)
    code, out, err = run("latency", store.dense(dense.id).path, *quick, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert list(found["measured"]["engines"]) == ["torch", "packed", "int8"]
    assert found["model"]["spec"]["name"] == dense.model.name
    assert found["measured"]["protocol"]["step_ms"] == 40 * (load_model(store.dense(dense.id).path).model.chunk or 1)
    code, out, err = run("latency", store.dense(dense.id).path, *quick)
    assert code == 0, err
    assert "packed" in out
    code, _, err = run("latency", store.dense(dense.id).path, "--engines", "torch,dense")
    assert code == 1
    assert "engine 'dense' runs recognisers with packed files alone; this one has torch, packed, int8" in err
