"""Small recognisers to pack."""

from __future__ import annotations

from typing import Any

import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.spec import FeatureSpec

FEATURES = FeatureSpec(mels=8, stack=3, level_fall=None)
TOKENIZER = CharacterTokenizer("abcdef")
RATE = 16_000


def pruned(sparsity: float, seed: int = 0) -> LSTMTransducer:
    torch.manual_seed(seed)
    model = LSTMTransducer(Shape(24, TOKENIZER.size, 2, 32, 1, 24, 20), mels=8).eval()
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight.masked_fill_(torch.rand_like(weight) < sparsity, 0)
    return model


def trained(model: LSTMTransducer, **note: Any) -> TrainedModel:
    return TrainedModel(model, TOKENIZER, FEATURES, RATE, note)
