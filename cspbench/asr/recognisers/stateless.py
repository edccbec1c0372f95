"""A transducer whose prediction network sees the last few labels only (Ghodsi et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from cspbench.asr.recognisers.lstm_transducer import LSTMStack
from cspbench.asr.speech_model import register
from cspbench.asr.tokenizer import BLANK
from cspbench.asr.transducer import State, TransducerBase
from cspbench.hyper import Hyperparameters
from cspbench.spec import FeatureSpec, ModelSpec


class StatelessOptions(Hyperparameters):
    """Options of transducers with a stateless prediction network."""

    context: int = Field(2, ge=1, le=16, description="labels that the prediction network sees")


class StatelessPrediction(nn.Module):
    """Embeddings of the last `context` labels, concatenated, one linear layer and ReLU: (N, U) -> (N, U, P)."""

    def __init__(self, units: int, width: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(units, width)
        self.linear = nn.Linear(context * width, width)

    def forward(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over U labels; the state is the ``context - 1`` labels before them, (1, N, context - 1), blanks first."""
        before = labels.new_full((len(labels), self.context - 1), BLANK) if state is None else state[0][0][0]
        seen = torch.cat([before, labels], dim=1)  # (N, context - 1 + U)
        windows = seen.unfold(1, self.context, 1)  # (N, U, context)
        predicted = torch.relu(self.linear(self.embedding(windows).flatten(-2)))
        return predicted, [(seen[None, :, labels.shape[1] :].clone(),)]


class StatelessBase(TransducerBase):
    """Base of transducers with a stateless prediction network; a subclass makes the encoder."""

    Options = StatelessOptions
    prediction: StatelessPrediction

    def forward_prediction(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.prediction(labels, state)


@register("stateless_transducer")
class StatelessTransducer(StatelessBase):
    """LSTM encoder, stateless prediction network."""

    summary = "LSTM encoder, and a prediction network that sees the last labels only"
    source = "Ghodsi et al. 2020, RNN-transducer with stateless prediction network (ICASSP)"
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "tiny": {"encoder_layers": 2, "encoder_width": 128, "prediction_width": 64, "joint_width": 128},
        "small": {"encoder_layers": 2, "encoder_width": 256, "prediction_width": 128, "joint_width": 192},
        "paper": {"encoder_layers": 5, "encoder_width": 1024, "prediction_width": 512, "joint_width": 512},
    }

    def __init__(self, spec: ModelSpec, features: FeatureSpec, units: int) -> None:
        super().__init__(features.mels)
        size = self.sizes(spec)
        inputs, width = features.mels * features.stack, size["encoder_width"]
        self.encoder = LSTMStack(inputs, width, size["encoder_layers"], spec.dropout)
        self.prediction = StatelessPrediction(units, size["prediction_width"], self.options(spec).context)
        self.dropout = nn.Dropout(spec.dropout)
        self.make_joint(width, size["prediction_width"], size["joint_width"], units)

    def forward_encoder(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.encoder(features, state)
