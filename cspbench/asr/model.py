"""The recogniser: an RNN transducer (Graves 2012, arXiv:1211.3711) with LSTM encoder and prediction network.

Every LSTM layer is an `nn.LSTM` of its own, so that `observe_inputs` can see what each weight matrix multiplies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cspbench.asr.tokenizer import BLANK
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


LSTMState = list[tuple[Tensor, Tensor]]
"""Hidden and cell state of each LSTM layer, each (1, N, H)."""


class LSTMStack(nn.Module):
    """Unidirectional LSTM layers with dropout between them, (N, T, C) -> (N, T, H)."""

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs] + [width] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, width, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Run over T steps from `state` (zeros if None); padding at the end of x does not reach earlier outputs."""
        after: LSTMState = []
        for index, layer in enumerate(self.layers):
            x, step = layer(x if index == 0 else self.dropout(x), None if state is None else state[index])
            after.append(step)
        return x, after


class LatticeOutput(NamedTuple):
    """Projected encodings (N, T, J) and predictions (N, U + 1, J), whose sums are the lattice; CTC logits (N, T, V)."""

    encoded: Tensor
    predicted: Tensor
    ctc: Tensor


class Transducer(nn.Module):
    """RNN-T with an auxiliary CTC head on the encoder; the head is for training only and no part of the recogniser."""

    AUXILIARY = "ctc."
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, shape: Shape, mels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.mels = mels
        self.register_buffer("feature_mean", torch.zeros(mels))
        self.register_buffer("feature_scale", torch.ones(mels))
        self.encoder = LSTMStack(shape.inputs, shape.encoder_width, shape.encoder_layers, dropout)
        self.embedding = nn.Embedding(shape.units, shape.prediction_width)
        self.prediction = LSTMStack(shape.prediction_width, shape.prediction_width, shape.prediction_layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.joint_encoder = nn.Linear(shape.encoder_width, shape.joint_width)
        self.joint_prediction = nn.Linear(shape.prediction_width, shape.joint_width, bias=False)
        self.joint_output = nn.Linear(shape.joint_width, shape.units)
        self.ctc = nn.Linear(shape.encoder_width, shape.units)

    def normalise(self, features: Tensor) -> Tensor:
        """Scale stacked log-mel features (N, T, stack * mels) to zero mean and unit variance of the training set."""
        split = features.unflatten(-1, (-1, self.mels))
        return ((split - self.feature_mean) * self.feature_scale).flatten(-2)

    def forward_encoder(self, features: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Normalised features (N, T, C) -> encodings (N, T, H) and the state after the last step."""
        return self.encoder(features, state)

    def forward_prediction(self, labels: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Labels (N, U) -> predictions (N, U, P) and the state after the last label."""
        return self.prediction(self.dropout(self.embedding(labels)), state)

    def forward_joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Encodings and predictions, projected to the joint's width and broadcastable -> logits (..., V)."""
        return self.joint_output(torch.tanh(encoded + predicted))

    def forward(self, features: Tensor, targets: Tensor) -> LatticeOutput:
        """Projections from which `forward_joint` makes any lattice node, for features (N, T, C) and targets (N, U)."""
        encoded, _ = self.forward_encoder(features)
        encoded = self.dropout(encoded)
        # Every utterance starts from the blank, as if it were a start symbol.
        started = nn.functional.pad(targets, (1, 0), value=BLANK)  # (N, U + 1)
        predicted, _ = self.forward_prediction(started)
        return LatticeOutput(
            encoded=self.joint_encoder(encoded),
            predicted=self.joint_prediction(self.dropout(predicted)),
            ctc=self.ctc(encoded),
        )

    def config(self) -> dict[str, Any]:
        """JSON value from which `from_config` makes a model of the same shape."""
        return {"shape": asdict(self.shape), "mels": self.mels}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Transducer:
        """Make a model with fresh weights and without dropout."""
        return cls(Shape(**config["shape"]), config["mels"])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.feature_mean.device

    def set_dropout(self, probability: float) -> None:
        """Set the dropout of every part, e.g. before a saved model is trained further."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability

    def recogniser_state(self) -> dict[str, Tensor]:
        """Tensors that recognition needs: all but the auxiliary head."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(self.AUXILIARY)}


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight matrix of LSTM and linear layers by name, but for the auxiliary head.

    Embeddings are look-ups (one row is read a label) and biases are vectors: neither costs what a matrix does.
    """
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and not name.startswith((Transducer.AUXILIARY, "embedding."))
    }


def prunable_shapes(model: ModelSpec, features: FeatureSpec, units: int) -> dict[str, tuple[int, int]]:
    """Return the shape (out, in) of every prunable matrix by name, without making any weights.

    Args:
        model: shape of the recogniser.
        features: its input.
        units: size of the vocabulary, on which the shape of the joint's output layer depends and no name does.
    """
    with torch.device("meta"):
        made = Transducer(resolve_shape(model, features, units), features.mels)
    return {name: (weight.shape[0], weight.shape[1]) for name, weight in prunable_weights(made).items()}


def observe_inputs(
    model: Transducer,
    features: Tensor,
    frames: Tensor,
    targets: Tensor,
    labels: Tensor,
    see: Callable[[str, Tensor], None],
    lattice_stride: int = 4,
) -> None:
    """Show `see(weight name, inputs (n, in))` what each prunable matrix multiplies on a batch, padding left out.

    Args:
        features: normalised, (N, T, C).
        frames: valid frames, (N,).
        targets: (N, U).
        labels: valid labels, (N,).
        see: called once a matrix.
        lattice_stride: the joint's output layer sees every lattice node; each `lattice_stride`-th frame is enough.
    """
    inside = torch.arange(features.shape[1], device=features.device) < frames[:, None]  # (N, T)
    started = nn.functional.pad(targets, (1, 0), value=BLANK)
    spoken = torch.arange(started.shape[1], device=features.device) <= labels[:, None]  # (N, U + 1)
    encoded = _observe_stack("encoder", model.encoder, features, inside, see)
    predicted = _observe_stack("prediction", model.prediction, model.embedding(started), spoken, see)
    see("joint_encoder.weight", encoded[inside])
    see("joint_prediction.weight", predicted[spoken])
    thin = slice(None, None, lattice_stride)
    before = model.joint_encoder(encoded[:, thin])[:, :, None] + model.joint_prediction(predicted)[:, None]
    see("joint_output.weight", torch.tanh(before[inside[:, thin, None] & spoken[:, None, :]]))


def _observe_stack(name: str, stack: LSTMStack, x: Tensor, valid: Tensor, see: Callable[[str, Tensor], None]) -> Tensor:
    for index, layer in enumerate(stack.layers):
        see(f"{name}.layers.{index}.weight_ih_l0", x[valid])
        x, _ = layer(x)
        before = nn.functional.pad(x[:, :-1], (0, 0, 1, 0))  # the recurrent matrix multiplies the previous output
        see(f"{name}.layers.{index}.weight_hh_l0", before[valid])
    return x
