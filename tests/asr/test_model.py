"""The recogniser's shape, its prunable matrices and what they multiply."""

from __future__ import annotations

import pytest
import torch

from cspbench.asr.model import PRESETS, Shape, Transducer, observe_inputs, resolve_shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.spec import FeatureSpec, ModelSpec


def weights_of(preset: str) -> int:
    shape = resolve_shape(ModelSpec(preset=preset), FeatureSpec(), units=28)
    with torch.device("meta"):
        model = Transducer(shape, 40)
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
    model = Transducer(Shape(12, 7, 2, 16, 2, 12, 10), mels=4)
    names = set(prunable_weights(model))
    lstm = {f"{s}.layers.{i}.weight_{k}_l0" for s in ("encoder", "prediction") for i in (0, 1) for k in ("ih", "hh")}
    assert names == lstm | {"joint_encoder.weight", "joint_prediction.weight", "joint_output.weight"}


def test_observed_inputs_are_what_each_matrix_multiplies() -> None:
    torch.manual_seed(0)
    model = Transducer(Shape(12, 7, 2, 16, 1, 12, 10), mels=4).eval()
    features, targets = torch.randn(3, 9, 12), torch.randint(1, 7, (3, 4))
    frames, labels = torch.tensor([9, 4, 6]), torch.tensor([4, 1, 0])
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        observe_inputs(model, features, frames, targets, labels, seen.__setitem__, lattice_stride=1)
    assert set(seen) == set(prunable_weights(model))
    assert all(x.shape[1] == prunable_weights(model)[n].shape[1] for n, x in seen.items())
    assert len(seen["encoder.layers.0.weight_ih_l0"]) == 19
    assert len(seen["prediction.layers.0.weight_ih_l0"]) == 8
    assert len(seen["joint_output.weight"]) == 9 * 5 + 4 * 2 + 6 * 1
    # One LSTM step recomputed from the observed inputs must be the next observed output.
    layer = model.encoder.layers[0]
    x, h = seen["encoder.layers.0.weight_ih_l0"], seen["encoder.layers.0.weight_hh_l0"]
    cell = torch.nn.LSTMCell(12, 16)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    state = (torch.zeros(1, 16), torch.zeros(1, 16))
    for t in range(8):
        torch.testing.assert_close(h[t : t + 1], state[0])
        state = cell(x[t : t + 1], state)


def test_normalise_scales_every_mel_of_every_stacked_frame() -> None:
    model = Transducer(Shape(6, 4, 1, 8, 1, 8, 8), mels=2)
    model.feature_mean.copy_(torch.tensor([1.0, 2.0]))
    model.feature_scale.copy_(torch.tensor([10.0, 100.0]))
    normalised = model.normalise(torch.tensor([[[1.0, 2.0, 2.0, 3.0, 3.0, 4.0]]]))
    torch.testing.assert_close(normalised, torch.tensor([[[0.0, 0.0, 10.0, 100.0, 20.0, 200.0]]]))


def test_a_model_is_rebuilt_from_its_config() -> None:
    model = Transducer(Shape(12, 7, 2, 16, 2, 12, 10), mels=4, dropout=0.3)
    copy = Transducer.from_config(model.config())
    copy.load_state_dict(model.state_dict())
    assert copy.config() == model.config()
