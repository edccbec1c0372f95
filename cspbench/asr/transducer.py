"""The base of all transducers (Graves 2012, arXiv:1211.3711): loss, decoding and distillation over the lattice."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cspbench.asr.ctc import ctc_loss
from cspbench.asr.decoding import StreamingGreedy, greedy_projected
from cspbench.asr.distillation import Lattice, distillation_loss
from cspbench.asr.loss import joint_transducer_loss
from cspbench.asr.speech_model import LabelStream, Positions, SpeechModel, valid
from cspbench.asr.tokenizer import BLANK
from cspbench.corpora.batches import Batch

State = list[tuple[Tensor, ...]]
"""State of a network between two steps: the tensors of each layer, each (1, N, ...)."""


CALIBRATION_STRIDE = 4
"""The joint's output layer is used at every lattice node: of each this many frames one is enough to measure it."""


class LatticeOutput(NamedTuple):
    """Projected encodings (N, T, J) and predictions (N, U + 1, J), whose sums are the lattice; CTC logits (N, T, V)."""

    encoded: Tensor
    predicted: Tensor
    ctc: Tensor


class TransducerBase(SpeechModel):
    """Encoder, prediction network and joint, with an auxiliary CTC head on the encoder that is for training only.

    A subclass makes the encoder, the prediction network and `dropout`, then calls `make_joint`; it defines
    `forward_encoder` and `forward_prediction`.
    """

    AUXILIARY = "ctc."
    distils = True
    chunk = 1
    dropout: nn.Dropout

    def make_joint(self, encoder_width: int, prediction_width: int, joint_width: int, units: int) -> None:
        """Make the layers that encodings and predictions meet in, and the CTC head."""
        self.joint_encoder = nn.Linear(encoder_width, joint_width)
        self.joint_prediction = nn.Linear(prediction_width, joint_width, bias=False)
        self.joint_output = nn.Linear(joint_width, units)
        self.ctc = nn.Linear(encoder_width, units)

    @abstractmethod
    def forward_encoder(self, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Normalised features (N, T, C) -> encodings (N, T, H) and the state after the last step.

        Without a state the features begin an utterance.
        """

    @abstractmethod
    def forward_prediction(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Labels (N, U) -> predictions (N, U, P) and the state after the last label."""

    def encode(self, features: Tensor, frames: Tensor) -> Tensor:
        """Normalised features (N, T, C) with `frames` (N,) valid steps -> encodings (N, T, H)."""
        return self.forward_encoder(features)[0]

    def forward_joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Encodings and predictions, projected to the joint's width and broadcastable -> logits (..., V)."""
        return self.joint_output(torch.tanh(encoded + predicted))

    def lattice(self, encoded: Tensor, targets: Tensor) -> LatticeOutput:
        """Projections from which `forward_joint` makes any node, for encodings (N, T, H) and targets (N, U)."""
        encoded = self.dropout(encoded)
        predicted, _ = self.forward_prediction(started(targets))
        return LatticeOutput(
            encoded=self.joint_encoder(encoded),
            predicted=self.joint_prediction(self.dropout(predicted)),
            ctc=self.ctc(encoded),
        )

    def outputs(self, batch: Batch) -> LatticeOutput:
        return self.lattice(self.encode(batch.features, batch.frames), batch.targets)

    def loss(self, outputs: LatticeOutput, batch: Batch) -> Tensor:
        return joint_transducer_loss(
            outputs.encoded,
            outputs.predicted,
            self.joint_output.weight,
            self.joint_output.bias,
            batch.targets,
            batch.frames,
            batch.labels,
            blank=BLANK,
            reduction="none",
        )

    def decode(self, outputs: LatticeOutput, batch: Batch) -> list[list[int]]:
        return greedy_projected(self, outputs.encoded, batch.frames)

    def auxiliary_loss(self, outputs: LatticeOutput, batch: Batch) -> Tensor:
        return ctc_loss(outputs.ctc, batch.targets, batch.frames, batch.labels, BLANK)

    def distillation(self, outputs: LatticeOutput, teacher: SpeechModel, batch: Batch) -> Tensor:
        """Divergence over the lattice, see `distillation_loss`; the teacher is given the same features."""
        assert isinstance(teacher, TransducerBase)
        with torch.no_grad():
            taught = teacher.lattice_of(teacher.outputs(batch))
        return distillation_loss(self.lattice_of(outputs), taught, batch.targets, batch.frames, batch.labels)

    def lattice_of(self, outputs: LatticeOutput) -> Lattice:
        """Return the outputs with the output layer of the joint, which make the logits of every node."""
        return Lattice(outputs.encoded, outputs.predicted, self.joint_output.weight, self.joint_output.bias)

    def calibrate(self, batch: Batch, positions: Positions) -> None:
        inside = valid(batch.frames, batch.features.shape[1])
        spoken = valid(batch.labels + 1, batch.targets.shape[1] + 1)
        with positions(inside):
            encoded = self.encode(batch.features, batch.frames)
            self.joint_encoder(encoded)
        with positions(spoken):
            predicted = self.joint_prediction(self.forward_prediction(started(batch.targets))[0])
        thin = slice(None, None, CALIBRATION_STRIDE)
        joint = self.joint_encoder  # not called as a module: its inputs have been measured
        projected = nn.functional.linear(encoded[:, thin], joint.weight, joint.bias)
        nodes = projected[:, :, None] + predicted[:, None]  # (N, T, U + 1, J)
        self.joint_output(torch.tanh(nodes[inside[:, thin, None] & spoken[:, None]]))

    def stream(self) -> LabelStream:
        return StreamingGreedy(self)


def started(targets: Tensor) -> Tensor:
    """Targets (N, U) -> (N, U + 1): every utterance starts from the blank, as if it were a start symbol."""
    return nn.functional.pad(targets, (1, 0), value=BLANK)
