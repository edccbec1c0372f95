"""Recognisers whose weights are made, not trained, for recordings that no one speaks in."""

from __future__ import annotations

import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.spec import FeatureSpec

RATE = 16_000
OPEN, SHUT = 12.0, -12.0
"""What a gate adds up to that is open, or shut."""
LOUD = -3.0
"""Mean log-mel feature, relative to the reference level, above which a step counts as loud."""


def random_recogniser() -> TrainedModel:
    """A recogniser with random weights that are large enough to emit something."""
    tokenizer = CharacterTokenizer(" abcdefg")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = LSTMTransducer(Shape(60, tokenizer.size, 2, 32, 1, 16, 24), mels=20).eval()
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.joint_output.bias.zero_()
        model.feature_mean.fill_(10.0)
        model.feature_scale.fill_(0.3)
    return TrainedModel(model, tokenizer, FeatureSpec(mels=20), RATE)


def counting_recogniser() -> TrainedModel:
    """A recogniser that writes an ``a`` where it becomes loud and a space where it becomes quiet again.

    So its text is known, whatever precedes and follows, and at whatever level: an ``a`` for each burst of noise. The
    encoder is +h in loud steps and -h in others, the prediction network +h after an ``a`` and -h else, h = tanh(1);
    the joint network lets the label win that the two call for.
    """
    tokenizer = CharacterTokenizer(" a")
    (letter,), (space,) = tokenizer.encode("a"), tokenizer.encode(" ")
    features = FeatureSpec(mels=20)
    size = features.mels * features.stack
    model = LSTMTransducer(Shape(size, tokenizer.size, 1, 8, 1, 8, 8), mels=features.mels).eval()
    weights = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    weights["feature_scale"].fill_(1)
    for stack in ("encoder", "prediction"):  # of the gates of 8 cells each: input, forget, cell, output
        weights[f"{stack}.layers.0.bias_ih_l0"][[0, 8, 24]] = torch.tensor([OPEN, SHUT, OPEN])
    weights["encoder.layers.0.weight_ih_l0"][16] = OPEN / size
    weights["encoder.layers.0.bias_ih_l0"][16] = -OPEN * LOUD
    weights["embedding.weight"][:, 0] = -1
    weights["embedding.weight"][letter, 0] = 1
    weights["prediction.layers.0.weight_ih_l0"][16, 0] = OPEN
    weights["joint_encoder.weight"][:2, 0] = torch.tensor([5.0, -5.0])
    weights["joint_prediction.weight"][:2, 0] = torch.tensor([-5.0, 5.0])
    weights["joint_encoder.bias"][:2] = -3.8
    weights["joint_output.weight"][letter, 0] = weights["joint_output.weight"][space, 1] = 5
    model.load_state_dict(weights)
    return TrainedModel(model, tokenizer, features, RATE)
