"""Saved models come back as they were, and nothing that could run code is ever loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.errors import CspbenchError
from cspbench.spec import FeatureSpec
from cspbench.store import write_atomic
from cspbench.training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model


def test_a_model_comes_back_whole(tmp_path: Path) -> None:
    model = LSTMTransducer(Shape(12, 4, 2, 8, 1, 8, 8), mels=4)
    model.feature_mean.uniform_()
    note = {"synthetic_speech": True}
    save_model(tmp_path, TrainedModel(model, CharacterTokenizer("abc"), FeatureSpec(mels=8), 16_000, note))
    loaded = load_model(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert loaded.tokenizer.decode([1, 3]) == "ac"
    assert (loaded.features, loaded.sample_rate, loaded.note) == (FeatureSpec(mels=8), 16_000, note)
    assert '"synthetic_speech": true' in (tmp_path / "model.json").read_text()


def test_a_folder_without_a_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CspbenchError, match="no model in"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"format": "cspbench-transducer", "version": 99}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CspbenchError, match="not a cspbench recogniser of version 1 or 2"):
        load_model(tmp_path)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"step": 1, "evil": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", {"step": 3, "w": torch.arange(3), "curve": [{"loss": 1.5}]})
    state = load_checkpoint(tmp_path / "c.pt", torch.device("cpu"))
    assert state["step"] == 3
    assert state["w"].tolist() == [0, 1, 2]
    assert state["curve"] == [{"loss": 1.5}]


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomic(target, "old")
    with pytest.raises(TypeError):
        write_atomic(target, None)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_model_of_version_1_keeps_its_front_end(tmp_path: Path) -> None:
    """It knew neither floor nor flush: with today's defaults it would decode features it was not trained on."""
    save_model(
        tmp_path,
        TrainedModel(
            LSTMTransducer(Shape(24, 5, 1, 8, 1, 8, 8), mels=8), CharacterTokenizer("abcd"), FeatureSpec(mels=8), 16_000
        ),
    )
    config = json.loads((tmp_path / "model.json").read_text())
    assert config["features"]["floor"] == FeatureSpec().floor
    config["version"] = 1
    del config["features"]["floor"], config["features"]["flush_ms"]
    (tmp_path / "model.json").write_text(json.dumps(config))
    assert load_model(tmp_path).features == FeatureSpec(mels=8, floor=None, flush_ms=0)
