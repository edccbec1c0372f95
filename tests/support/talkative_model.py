"""A small recogniser that has something to say."""

from __future__ import annotations

import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.spec import FeatureSpec

FEATURES = FeatureSpec(mels=20, stack=3, flush_ms=0, level_fall=None)
"""Without a flush, so that all labels are there before the end; absolute, so that loud and quiet differ."""
TOKENIZER = CharacterTokenizer("abcdefg ")
RATE = 16_000


def talkative(seed: int = 0, sparsity: float = 0.8, width: int = 32) -> LSTMTransducer:
    """An untrained model that emits something, and in some steps as much as it may."""
    torch.manual_seed(seed)
    model = LSTMTransducer(Shape(60, TOKENIZER.size, 2, width, 2, 16, 24), mels=20).eval()
    with torch.no_grad():
        model.feature_mean.fill_(10.0)
        model.feature_scale.fill_(0.3)
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.joint_output.bias.zero_()
        for weight in prunable_weights(model).values():
            weight *= torch.rand_like(weight) >= sparsity
    return model


def trained(model: LSTMTransducer, features: FeatureSpec = FEATURES) -> TrainedModel:
    return TrainedModel(model, TOKENIZER, features, RATE)
