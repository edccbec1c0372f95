"""A streaming recogniser at batch 1 in torch: on dense or sparse weights, on the CPU or another device.

Packed models run on it where the native module is absent, and latency is measured against it. It has the interface of
the native streams. Input and recurrent matrix of an LSTM layer are joined, so that a step is one product, and its gates
are ordered so that one sigmoid serves three of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cspbench.asr.recognisers.lstm_transducer import LSTMStack
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.asr.trained import TrainedModel
from cspbench.runtime.online_features import OnlineFeatures
from cspbench.runtime.torch_affine import Affine, Layout, tensor_bytes


class LSTMCell:
    """One LSTM layer, one step, one stream."""

    def __init__(self, layer: nn.LSTM, layout: Layout) -> None:
        own = dict(layer.named_parameters())
        joined = torch.cat([own["weight_ih_l0"], own["weight_hh_l0"]], dim=1)  # (4H, in + H), gates i f g o
        bias = own["bias_ih_l0"] + own["bias_hh_l0"]
        i, f, g, o = range(4)

        def reorder(x: Tensor) -> Tensor:
            return x.unflatten(0, (4, -1))[[i, f, o, g]].flatten(0, 1)

        self.affine = Affine(reorder(joined), reorder(bias), layout)
        self.width = layer.hidden_size
        self.reset()

    def reset(self) -> None:
        """Set the state to zeros."""
        self.hidden = self.affine.bias.new_zeros(self.width)
        self.cell = self.affine.bias.new_zeros(self.width)

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (in,) -> outputs (H,). The state is replaced, not changed in place."""
        gates = self.affine(torch.cat([x, self.hidden]))
        i, f, o = torch.sigmoid(gates[: 3 * self.width]).view(3, -1)
        self.cell = torch.addcmul(f * self.cell, i, torch.tanh(gates[3 * self.width :]))
        self.hidden = o * torch.tanh(self.cell)
        return self.hidden


class TorchRecogniser:
    """One stream of a recogniser: samples in, labels out as they are decoded.

    Args:
        trained: the recogniser; its weights are copied, as fp32, to the CPU (see `to`).
        layout: of the weight matrices. With ``2:4`` the output layer of the joint stays dense: its rows are as many as
            there are units, which the device's kernels need not take.
        max_symbols: labels in one step at most.
    """

    def __init__(self, trained: TrainedModel, layout: Layout = "dense", max_symbols: int = MAX_SYMBOLS) -> None:
        model = trained.transducer
        self.features, self.sample_rate = trained.features, trained.sample_rate
        self.max_symbols = max_symbols
        self._step_samples = trained.pace.step_samples
        self._mean = model.feature_mean.detach().cpu().repeat(self.features.stack)
        self._scale = model.feature_scale.detach().cpu().repeat(self.features.stack)
        self._embedding = model.embedding.weight.detach().cpu().float().clone()
        self._encoder = _cells(model.encoder, layout)
        self._prediction = _cells(model.prediction, layout)
        self._joint_encoder = Affine(model.joint_encoder.weight, model.joint_encoder.bias, layout)
        self._joint_prediction = Affine(model.joint_prediction.weight, None, layout)
        output = model.joint_output
        self._joint_output = Affine(output.weight, output.bias, "dense" if layout == "2:4" else layout)
        self.reset()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._mean.device

    @torch.inference_mode()
    def to(self, device: torch.device | str) -> TorchRecogniser:
        """Move the weights to a device and reset the decoder state; return the recogniser itself.

        Features are computed on the CPU. They are what crosses over in each step.

        Raises:
            CspbenchError: a 2:4 matrix of a shape that a CUDA device does not take.
        """
        for affine in (*(cell.affine for cell in (*self._encoder, *self._prediction)), *self._joint()):
            affine.to(device)
        self._mean, self._scale = self._mean.to(device), self._scale.to(device)
        self._embedding = self._embedding.to(device)
        self.reset()
        return self

    def weight_bytes(self) -> dict[str, int]:
        """Bytes of the weights with their indices, by part of the recogniser."""
        encoder, prediction, output = self._joint()
        return {
            "normalisation": tensor_bytes(self._mean) + tensor_bytes(self._scale),
            "encoder": sum(cell.affine.bytes for cell in self._encoder),
            "embedding": tensor_bytes(self._embedding),
            "prediction": sum(cell.affine.bytes for cell in self._prediction),
            "joint_encoder": encoder.bytes,
            "joint_prediction": prediction.bytes,
            "joint_output": output.bytes,
        }

    def stream(self) -> TorchRecogniser:
        """Another stream on the same weights."""
        other = copy.copy(self)
        other._encoder, other._prediction = ([copy.copy(c) for c in cs] for cs in (self._encoder, self._prediction))
        other.reset()
        return other

    @torch.inference_mode()
    def reset(self) -> None:
        """Reset the decoder state: the next samples start a new utterance."""
        self._front_end = OnlineFeatures(self.features, self.sample_rate)
        self._rest = np.zeros(0, np.float32)  # samples from the next step on, which knf does not give back
        self.steps = 0
        for cell in (*self._encoder, *self._prediction):
            cell.reset()
        self._advance(BLANK)

    @torch.inference_mode()
    def accept(self, samples: np.ndarray) -> list[int]:
        """Decode samples (N,), N >= 0, mono in [-1, 1] at `sample_rate`, checked; return the labels they brought."""
        features = self._front_end.accept(samples)
        emitted: list[int] = []
        for row in features:
            emitted += self._step(torch.from_numpy(row).to(self.device))
        self._rest = np.concatenate([self._rest, samples])[len(features) * self._step_samples :]
        self.steps += len(features)
        return emitted

    def finish(self) -> None:
        """End the utterance; samples too few for a step are dropped."""

    def state(self) -> bytes:
        """The decoder state, to go on from in another stream of the same weights; labels are not part of it."""
        tensors = {name: getattr(owner, field).cpu() for name, owner, field in self._states()}
        at = self._front_end.level
        level = torch.tensor([at.reference, at.background], dtype=torch.float64)
        own = {"rest": torch.from_numpy(self._rest.copy()), "steps": torch.tensor(self.steps), "level": level}
        return save({**{name: tensor.contiguous() for name, tensor in tensors.items()}, **own})

    def restore(self, state: bytes) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: it is none, or of a network of another shape.
        """
        try:
            tensors = load(state)
            rest, steps, level = tensors.pop("rest").numpy(), int(tensors.pop("steps")), tensors.pop("level").tolist()
        except (SafetensorError, KeyError) as error:
            raise ValueError("this is no state of a stream") from error
        places = list(self._states())
        expected = {name: getattr(owner, field).shape for name, owner, field in places}
        if expected != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError("this state is of a network of another shape")
        self.reset()
        for name, owner, field in places:
            setattr(owner, field, tensors[name].to(self.device))
        self._front_end.level.reference, self._front_end.level.background = level
        self.accept(rest)  # completes no step
        self.steps = steps

    def _states(self) -> Iterator[tuple[str, object, str]]:
        """Name, owner and attribute of each tensor that is carried from step to step."""
        for stack, cells in (("encoder", self._encoder), ("prediction", self._prediction)):
            for index, cell in enumerate(cells):
                yield from ((f"{stack}.{index}.{field}", cell, field) for field in ("hidden", "cell"))
        yield "predicted", self, "_predicted"

    def _joint(self) -> tuple[Affine, Affine, Affine]:
        return self._joint_encoder, self._joint_prediction, self._joint_output

    def _step(self, stacked: Tensor) -> list[int]:
        """Labels of one step of the model, for stacked features (stack * mels,)."""
        x = (stacked - self._mean) * self._scale
        for cell in self._encoder:
            x = cell(x)
        encoded = self._joint_encoder(x)
        emitted: list[int] = []
        while len(emitted) < self.max_symbols:
            best = int(self._joint_output(torch.tanh(encoded + self._predicted)).argmax())
            if best == BLANK:
                break
            emitted.append(best)
            self._advance(best)
        return emitted

    def _advance(self, label: int) -> None:
        x = self._embedding[label]
        for cell in self._prediction:
            x = cell(x)
        self._predicted = self._joint_prediction(x)


def _cells(stack: LSTMStack, layout: Layout) -> list[LSTMCell]:
    return [LSTMCell(layer, layout) for layer in stack.layers]  # type: ignore[arg-type]
