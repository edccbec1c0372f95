"""The default recogniser: a transducer (Graves 2012, arXiv:1211.3711) with LSTM encoder and prediction network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from cspbench.asr.speech_model import register
from cspbench.asr.transducer import LatticeOutput, State, TransducerBase
from cspbench.spec import FeatureSpec, ModelSpec


@dataclass(frozen=True)
class Shape:
    """Sizes of the networks. `inputs` is mels x stack; `units` counts blank."""

    inputs: int
    units: int
    encoder_layers: int
    encoder_width: int
    prediction_layers: int
    prediction_width: int
    joint_width: int


PRESETS: dict[str, dict[str, int]] = {
    # The README gives their numbers of weights, and a test holds us to them.
    "tiny": {
        "encoder_layers": 2,
        "encoder_width": 128,
        "prediction_layers": 1,
        "prediction_width": 64,
        "joint_width": 128,
    },
    "small": {
        "encoder_layers": 2,
        "encoder_width": 256,
        "prediction_layers": 1,
        "prediction_width": 128,
        "joint_width": 192,
    },
    "paper": {
        "encoder_layers": 5,
        "encoder_width": 1024,
        "prediction_layers": 2,
        "prediction_width": 1024,
        "joint_width": 512,
    },
}


def resolve_shape(spec: ModelSpec, features: FeatureSpec, units: int) -> Shape:
    """Fill in what the spec leaves to its preset."""
    given = {key: getattr(spec, key) for key in PRESETS[spec.preset] if getattr(spec, key) is not None}
    return Shape(inputs=features.mels * features.stack, units=units, **{**PRESETS[spec.preset], **given})


class LSTMStack(nn.Module):
    """Unidirectional LSTM layers with dropout between them, (N, T, C) -> (N, T, H)."""

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs] + [width] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, width, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over T steps from `state`; padding at the end of x does not reach earlier outputs.

        The state is hidden and cell state of each layer, each (1, N, H); zeros if None.
        """
        after: State = []
        for index, layer in enumerate(self.layers):
            x, step = layer(x if index == 0 else self.dropout(x), None if state is None else state[index])
            after.append(step)
        return x, after


@register("lstm_transducer")
class LSTMTransducer(TransducerBase):
    """RNN-T with LSTM encoder and prediction network; the one that the native runtime runs."""

    summary = "LSTM encoder and LSTM prediction network; runs natively from packed files"
    source = "Graves 2012 (arXiv:1211.3711)"
    presets = PRESETS

    def __init__(self, shape: Shape, mels: int, dropout: float = 0.0) -> None:
        super().__init__(mels)
        self.shape = shape
        self.encoder = LSTMStack(shape.inputs, shape.encoder_width, shape.encoder_layers, dropout)
        self.embedding = nn.Embedding(shape.units, shape.prediction_width)
        self.prediction = LSTMStack(shape.prediction_width, shape.prediction_width, shape.prediction_layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.make_joint(shape.encoder_width, shape.prediction_width, shape.joint_width, shape.units)

    @classmethod
    def build(cls, spec: ModelSpec, features: FeatureSpec, units: int) -> LSTMTransducer:
        return cls(resolve_shape(spec, features, units), features.mels, spec.dropout)

    def forward_encoder(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.encoder(features, state)

    def forward_prediction(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return self.prediction(self.dropout(self.embedding(labels)), state)

    def forward(self, features: Tensor, targets: Tensor) -> LatticeOutput:
        """Projections from which `forward_joint` makes any lattice node, for features (N, T, C) and targets (N, U)."""
        return self.lattice(self.forward_encoder(features)[0], targets)

    def config(self) -> dict[str, Any]:
        """JSON value from which `from_config` makes a model of the same shape."""
        return {"shape": asdict(self.shape), "mels": self.mels}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LSTMTransducer:
        """Make a model with fresh weights and without dropout."""
        return cls(Shape(**config["shape"]), config["mels"])
