"""Every recogniser of the package but the default one, so small that a test can train it."""

from __future__ import annotations

from typing import Any

import torch

from cspbench.asr.recognisers import build_model
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.tokenizer import Tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.spec import FeatureSpec, ModelSpec

SMALL: dict[str, dict[str, Any]] = {
    "conformer_transducer": {
        **{"encoder_layers": 2, "encoder_width": 48, "prediction_width": 32, "joint_width": 64},
        "options": {"heads": 2, "kernel": 5, "chunk": 4, "left_chunks": 2},
    },
    "lstm_ctc": {"encoder_layers": 2, "encoder_width": 64},
    "stateless_transducer": {"encoder_layers": 1, "encoder_width": 64, "prediction_width": 32, "joint_width": 64},
}


def untrained(name: str, features: FeatureSpec, tokenizer: Tokenizer, scale: float = 1.0) -> TrainedModel:
    """A recogniser of 16 kHz speech with the same random weights every time, multiplied by `scale`."""
    torch.manual_seed(0)
    model = build_model(small(name), features, tokenizer.size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return TrainedModel(model, tokenizer, features, 16_000)


def talkative_stateless(features: FeatureSpec, tokenizer: Tokenizer) -> TrainedModel:
    """An untrained ``stateless_transducer`` whose labels depend on what it is given, with several in some steps."""
    return _talkative(untrained("stateless_transducer", features, tokenizer))


def talkative_lstm(features: FeatureSpec, tokenizer: Tokenizer) -> TrainedModel:
    """An ``lstm_transducer`` of the same kind, with two layers in the prediction network."""
    torch.manual_seed(0)
    shape = Shape(features.mels * features.stack, tokenizer.size, 2, 64, 2, 32, 48)
    model = LSTMTransducer(shape, features.mels).eval()
    return _talkative(TrainedModel(model, tokenizer, features, 16_000))


def _talkative(trained: TrainedModel) -> TrainedModel:
    model = trained.model
    with torch.no_grad():
        model.feature_mean.fill_(9.0 if trained.features.level_fall is None else -5.0)
        model.feature_scale.fill_(0.3)
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "prediction" in name else 4)
        bias = model.get_parameter("joint_output.bias")
        bias.zero_()
        bias[0] = 1
    return trained


def small(name: str) -> ModelSpec:
    return ModelSpec(name=name, dropout=0.0, **SMALL[name])
