"""Trials that start from a recogniser trained elsewhere, and the recogniser that cspbench comes with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.pruning.method import REWIND_POINTS
from cspbench.spec import (
    AugmentSpec,
    CorpusSpec,
    DenseSpec,
    MethodSpec,
    ModelSpec,
    PretrainedSpec,
    TrainSpec,
    TrialSpec,
)
from cspbench.store import DenseFolder, Store, read_json
from cspbench.sweep.plan import resolve
from cspbench.training.dense import train_dense
from cspbench.training.pretrained import SHIPPED, fingerprint, recogniser_specs, resolved, ship
from cspbench.trials.run import run_trial

SHIPPED_HASH = "38a31cdec009e954"
"""Of ``spoken_commands``; the documentation says how it was made."""


@pytest.fixture
def own(corpus: dict[str, Any], tmp_path: Path) -> DenseFolder:
    """Folder of a recogniser that somebody has trained."""
    store = Store(tmp_path / "elsewhere")
    spec = DenseSpec(
        corpus=CorpusSpec.model_validate(corpus),
        model=ModelSpec(encoder_width=8),
        training=TrainSpec(epochs=20, evaluate_every=20),
    )
    train_dense(spec, store, device="cpu")
    return store.dense(spec.id)


def dense_spec(corpus: dict[str, Any], folder: DenseFolder) -> DenseSpec:
    pretrained = resolved(PretrainedSpec(path=str(folder.path)))
    model, features = recogniser_specs(pretrained)
    return DenseSpec(corpus=CorpusSpec.model_validate(corpus), model=model, features=features, pretrained=pretrained)


def test_trials_start_from_a_recogniser_of_ones_own(corpus: dict[str, Any], own: DenseFolder, tmp_path: Path) -> None:
    store, dense = Store(tmp_path / "runs"), dense_spec(corpus, own)
    training = TrainSpec(epochs=2, augment=AugmentSpec(speeds=(0.9, 1.1)))
    method = MethodSpec(name="lottery", params={"rounds": 1})
    trial = TrialSpec(
        dense=dense, method=method, sparsity=0.5, training=training, selection_only=True, latency={"utterances": 1}
    )
    result = run_trial(trial, store, device="cpu")
    copy = store.dense(dense.id)
    assert {name: tuple(w.shape) for name, w in load_file(copy.weights).items()}["encoder.layers.0.weight_hh_l0"] == (
        32,
        8,
    )
    ours, theirs = load_file(copy.weights), load_file(own.weights)
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    assert len(copy.snapshots) == len(REWIND_POINTS)
    before, after = read_json(own.result), read_json(copy.result)
    assert {**after, "dense_id": None} == {**before, "dense_id": None}
    assert result.sparsity == pytest.approx(0.5, abs=1e-3)


def test_where_a_recogniser_lies_is_no_part_of_its_identity(
    corpus: dict[str, Any], own: DenseFolder, tmp_path: Path
) -> None:
    before = dense_spec(corpus, own)
    moved = DenseFolder(own.path.rename(tmp_path / "moved"))
    after = dense_spec(corpus, moved)
    assert after.pretrained != before.pretrained
    assert after.id == before.id != DenseSpec(corpus=after.corpus, model=after.model, features=after.features).id
    moved.model.write_text(moved.model.read_text() + "\n")
    assert dense_spec(corpus, moved).id != before.id
    with pytest.raises(ConfigError, match=r"has fingerprint \w+ where the trial was made for"):
        train_dense(after, Store(tmp_path / "runs"))


def test_a_recogniser_that_does_not_fit_is_refused(corpus: dict[str, Any], own: DenseFolder, tmp_path: Path) -> None:
    spec, store = dense_spec(corpus, own), Store(tmp_path / "runs")
    with pytest.raises(ConfigError, match="another shape or front end than the spec"):
        train_dense(spec.model_copy(update={"model": ModelSpec()}), store)
    with pytest.raises(
        ConfigError, match=r"should hold model.json and model.safetensors .*comes with: spoken_commands"
    ):
        resolved(PretrainedSpec(path=str(tmp_path / "nothing")))
    config = json.loads(own.model.read_text())
    own.model.write_text(json.dumps(config | {"sample_rate": 8000}))
    with pytest.raises(ConfigError, match="takes audio of 8000 Hz, and the corpus has 16000 Hz"):
        train_dense(dense_spec(corpus, own), store)
    own.model.write_text(json.dumps(config | {"note": {"trial_id": "0ea1"}}))
    with pytest.raises(ConfigError, match="holds a pruned recogniser; give a dense one"):
        resolved(PretrainedSpec(path=str(own.path)))
    with pytest.raises(ValueError, match="a pretrained recogniser is not trained"):
        DenseSpec.model_validate(spec.model_dump() | {"seed": 1})


def test_a_sweep_takes_model_and_features_from_the_recogniser(
    corpus: dict[str, Any], own: DenseFolder, tmp_path: Path
) -> None:
    data = {"name": "demo", "corpus": corpus, "sparsity": [0.5], "methods": ["csp"], "model": {"dropout": 0.3}}
    config = SweepConfig.model_validate(data | {"dense": {"pretrained": str(own.path)}})
    (spec,) = resolve(config, Store(tmp_path / "runs"), print).dense_specs()
    assert (spec.model.encoder_width, spec.model.dropout) == (8, 0.3)
    assert spec.pretrained == resolved(PretrainedSpec(path=str(own.path)))
    assert SweepConfig.model_validate(config.model_dump(mode="json")) == config


def test_half_precision_keeps_what_a_recogniser_is(own: DenseFolder, tmp_path: Path) -> None:
    half = DenseFolder(tmp_path / "half")
    assert ship(own, half) == fingerprint(half) != fingerprint(own)
    before, after = load_file(own.weights), load_file(half.weights)
    assert {name for name, weight in after.items() if weight.dtype == torch.float32} == {
        "feature_mean",
        "feature_scale",
    }
    for name, weight in before.items():
        torch.testing.assert_close(after[name].float(), weight, rtol=1e-3, atol=1e-6)
    assert read_json(half.result) == read_json(own.result)


def test_the_shipped_recogniser_is_small_and_knows_its_commands(tmp_path: Path) -> None:
    folder = SHIPPED.dense("spoken_commands")
    assert fingerprint(folder) == SHIPPED_HASH
    assert sum(path.stat().st_size for path in folder.path.iterdir()) < 1_000_000
    trained_on = read_json(folder.spec)["corpus"]
    assert (trained_on["name"], read_json(folder.result)["synthetic"]) == ("spoken_commands", True)
    pytest.importorskip("espeakng_loader", reason="NO SYNTHESIS: pip install 'cspbench[synthesis]'")
    pretrained = resolved(PretrainedSpec(path="spoken_commands"))
    model, features = recogniser_specs(pretrained)
    options = {"train": 1, "dev": 1, "test": 60}  # sentences and voices of test are never those of train
    corpus = CorpusSpec(name="spoken_commands", options=options)
    spec = DenseSpec(corpus=corpus, model=model, features=features, pretrained=pretrained)
    result = train_dense(spec, Store(tmp_path), device="cpu")
    assert result.synthetic
    assert result.test.wer < 0.1
