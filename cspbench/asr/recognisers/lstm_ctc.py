"""An LSTM encoder trained by CTC alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from cspbench.asr.ctc_model import CtcBase, CtcOutput, CtcStream
from cspbench.asr.recognisers.lstm_transducer import LSTMStack
from cspbench.asr.speech_model import LabelStream, register
from cspbench.asr.transducer import State
from cspbench.corpora.batches import Batch
from cspbench.spec import FeatureSpec, ModelSpec


@register("lstm_ctc")
class LSTMCtc(CtcBase):
    """Unidirectional LSTM layers and an output layer, decoded greedily."""

    summary = "LSTM encoder, CTC, greedy decoding"
    source = "Graves et al. 2006, Connectionist temporal classification (ICML)"
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "tiny": {"encoder_layers": 2, "encoder_width": 128},
        "small": {"encoder_layers": 3, "encoder_width": 256},
        "paper": {"encoder_layers": 5, "encoder_width": 1024},
    }
    chunk = 1

    def __init__(self, spec: ModelSpec, features: FeatureSpec, units: int) -> None:
        super().__init__(features.mels)
        size = self.sizes(spec)
        inputs, width = features.mels * features.stack, size["encoder_width"]
        self.encoder = LSTMStack(inputs, width, size["encoder_layers"], spec.dropout)
        self.dropout = nn.Dropout(spec.dropout)
        self.output = nn.Linear(width, units)

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Normalised features (N, T, C) -> logits (N, T, V) and the state after the last step."""
        encoded, state = self.encoder(features, state)
        return self.output(self.dropout(encoded)), state

    def outputs(self, batch: Batch) -> CtcOutput:
        return CtcOutput(self(batch.features)[0], batch.frames)

    def stream(self) -> LabelStream:
        return CtcStream(self)
