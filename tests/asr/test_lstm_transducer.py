"""The recogniser's shape and its prunable matrices."""

from __future__ import annotations

import pytest
import torch

from cspbench.asr.recognisers.lstm_transducer import PRESETS, LSTMTransducer, Shape, resolve_shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.spec import FeatureSpec, ModelSpec


def weights_of(preset: str) -> int:
    shape = resolve_shape(ModelSpec(preset=preset), FeatureSpec(), units=28)
    with torch.device("meta"):
        model = LSTMTransducer(shape, 40)
    return sum(p.numel() for n, p in model.named_parameters() if not n.startswith("ctc."))


def test_presets_have_the_documented_sizes() -> None:
    documented = {"tiny": 0.323e6, "small": 1.13e6, "paper": 56.2e6}
    assert set(PRESETS) == set(documented)
    for preset, count in documented.items():
        assert weights_of(preset) == pytest.approx(count, rel=0.02)


def test_what_is_given_overrides_the_preset() -> None:
    shape = resolve_shape(ModelSpec(preset="tiny", encoder_width=99), FeatureSpec(mels=20, stack=2), units=5)
    assert (shape.encoder_width, shape.inputs, shape.units) == (99, 40, 5)
    assert shape.joint_width == PRESETS["tiny"]["joint_width"]


def test_every_matrix_but_embedding_and_auxiliary_head_is_prunable() -> None:
    model = LSTMTransducer(Shape(12, 7, 2, 16, 2, 12, 10), mels=4)
    names = set(prunable_weights(model))
    lstm = {f"{s}.layers.{i}.weight_{k}_l0" for s in ("encoder", "prediction") for i in (0, 1) for k in ("ih", "hh")}
    assert names == lstm | {"joint_encoder.weight", "joint_prediction.weight", "joint_output.weight"}


def test_normalise_scales_every_mel_of_every_stacked_frame() -> None:
    model = LSTMTransducer(Shape(6, 4, 1, 8, 1, 8, 8), mels=2)
    model.feature_mean.copy_(torch.tensor([1.0, 2.0]))
    model.feature_scale.copy_(torch.tensor([10.0, 100.0]))
    normalised = model.normalise(torch.tensor([[[1.0, 2.0, 2.0, 3.0, 3.0, 4.0]]]))
    torch.testing.assert_close(normalised, torch.tensor([[[0.0, 0.0, 10.0, 100.0, 20.0, 200.0]]]))


def test_a_model_is_rebuilt_from_its_config() -> None:
    model = LSTMTransducer(Shape(12, 7, 2, 16, 2, 12, 10), mels=4, dropout=0.3)
    copy = LSTMTransducer.from_config(model.config())
    copy.load_state_dict(model.state_dict())
    assert copy.config() == model.config()
