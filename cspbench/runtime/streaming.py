"""A streaming recogniser at batch 1 that can run on dense or on packed weights.

Both kinds run the same code; only the product of a matrix with a vector differs. Input and recurrent matrix of an LSTM
layer are joined, so that a step is one product, and its gates are ordered so that one sigmoid serves three of them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Literal

import kaldi_native_fbank as knf
import numpy as np
import torch
from torch import Tensor, nn

from cspbench.asr.model import LSTMStack, Transducer
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS, Tokenizer
from cspbench.corpora.features import SAMPLE_SCALE, fbank_options
from cspbench.spec import FeatureSpec

Weights = Literal["dense", "csr"]


def _matrix(weight: Tensor, kind: Weights) -> Tensor:
    """A matrix in the layout of `kind`. torch's CSR kernels are about twice as fast on 32-bit indices."""
    weight = weight.detach().cpu().float().contiguous()
    if kind == "dense":
        return weight
    with warnings.catch_warnings():
        # torch calls its CSR layout beta, once a process; the layout is checked here and the outputs in our tests.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        csr = weight.to_sparse_csr()
        return torch.sparse_csr_tensor(
            csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape, check_invariants=True
        )


class _Affine:
    """``y = W x + b`` for one vector."""

    def __init__(self, weight: Tensor, bias: Tensor, kind: Weights) -> None:
        self.weight = _matrix(weight, kind)
        self.bias = bias.detach().cpu().float().clone()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmv(self.bias, self.weight, x)


class _LSTMCell:
    """One LSTM layer, one step, one stream."""

    def __init__(self, layer: nn.LSTM, kind: Weights) -> None:
        own = dict(layer.named_parameters())
        joined = torch.cat([own["weight_ih_l0"], own["weight_hh_l0"]], dim=1)  # (4H, in + H), gates i f g o
        bias = own["bias_ih_l0"] + own["bias_hh_l0"]
        i, f, g, o = range(4)

        def reorder(x: Tensor) -> Tensor:
            return x.unflatten(0, (4, -1))[[i, f, o, g]].flatten(0, 1)

        self.affine = _Affine(reorder(joined), reorder(bias), kind)
        self.width = layer.hidden_size
        self.reset()

    def reset(self) -> None:
        self.hidden = torch.zeros(self.width)
        self.cell = torch.zeros(self.width)

    def __call__(self, x: Tensor) -> Tensor:
        gates = self.affine(torch.cat([x, self.hidden]))
        i, f, o = torch.sigmoid(gates[: 3 * self.width]).view(3, -1)
        self.cell = torch.addcmul(f * self.cell, i, torch.tanh(gates[3 * self.width :]))
        self.hidden = o * torch.tanh(self.cell)
        return self.hidden


class _Stack:
    def __init__(self, stack: LSTMStack, kind: Weights) -> None:
        self.cells = [_LSTMCell(layer, kind) for layer in stack.layers]  # type: ignore[arg-type]

    def reset(self) -> None:
        for cell in self.cells:
            cell.reset()

    def sibling(self) -> _Stack:
        """The same weights; states of its own."""
        other = copy.copy(self)
        other.cells = [copy.copy(cell) for cell in self.cells]  # a step replaces states, it does not change them
        return other

    def __call__(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = cell(x)
        return x


class StreamingRecogniser:
    """Turns samples into text as they arrive.

    Args:
        model: the recogniser; its weights are copied into the chosen layout, on the CPU, in fp32.
        tokenizer: its units.
        features: its front end.
        sample_rate: Hz.
        weights: ``"dense"`` keeps every weight, ``"csr"`` skips the zeros.
        max_symbols: labels in one frame at most.
    """

    def __init__(
        self,
        model: Transducer,
        tokenizer: Tokenizer,
        features: FeatureSpec,
        sample_rate: int,
        weights: Weights = "dense",
        max_symbols: int = MAX_SYMBOLS,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = features
        self.sample_rate = sample_rate
        self.weights = weights
        self.max_symbols = max_symbols
        self._mean = model.feature_mean.detach().cpu().repeat(features.stack)
        self._scale = model.feature_scale.detach().cpu().repeat(features.stack)
        self._encoder = _Stack(model.encoder, weights)
        self._prediction = _Stack(model.prediction, weights)
        self._embedding = model.embedding.weight.detach().cpu().float().clone()
        self._joint_encoder = _Affine(model.joint_encoder.weight, model.joint_encoder.bias, weights)
        no_bias = torch.zeros(model.shape.joint_width)
        self._joint_prediction = _Affine(model.joint_prediction.weight, no_bias, weights)
        self._joint_output = _Affine(model.joint_output.weight, model.joint_output.bias, weights)
        self.reset()

    @property
    def step_samples(self) -> int:
        """Samples that one model step covers, cut off to whole ones in single precision as Kaldi does it."""
        hop = np.float32(self.sample_rate) * np.float32(0.001) * np.float32(self.features.hop_ms)
        return int(hop) * self.features.stack

    @property
    def text(self) -> str:
        """What has been recognised so far."""
        return self.tokenizer.decode(self.labels)

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget everything heard: the next samples start a new utterance."""
        self._bank = knf.OnlineFbank(fbank_options(self.features, self.sample_rate))
        self._next_frame = 0
        self.labels: list[int] = []
        self._encoder.reset()
        self._prediction.reset()
        self._advance(BLANK)

    def sibling(self) -> StreamingRecogniser:
        """Another stream on the same weights."""
        other = copy.copy(self)
        other._encoder, other._prediction = self._encoder.sibling(), self._prediction.sibling()
        other.reset()
        return other

    def state(self) -> dict[str, Tensor]:
        """What encoder and prediction network remember; samples that fill no step yet are the caller's to keep."""
        return {name: getattr(owner, field) for name, owner, field in self._remembered()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; ValueError if it is none of a recogniser of this shape."""
        remembered = list(self._remembered())
        if {name: tuple(getattr(owner, field).shape) for name, owner, field in remembered} != {
            name: tuple(tensor.shape) for name, tensor in state.items()
        }:
            raise ValueError("this state is of a network of another shape")
        self.reset()
        for name, owner, field in remembered:
            setattr(owner, field, state[name])

    def _remembered(self) -> Iterator[tuple[str, object, str]]:
        for stack, cells in (("encoder", self._encoder.cells), ("prediction", self._prediction.cells)):
            for index, cell in enumerate(cells):
                yield from ((f"{stack}.{index}.{field}", cell, field) for field in ("hidden", "cell"))
        yield "predicted", self, "_predicted"

    @torch.inference_mode()
    def accept(self, samples: np.ndarray) -> int:
        """Consume mono samples in [-1, 1] at `sample_rate`; return the number of model steps they completed."""
        self._bank.accept_waveform(self.sample_rate, (samples * SAMPLE_SCALE).tolist())
        stack = self.features.stack
        steps = (self._bank.num_frames_ready - self._next_frame) // stack
        for _ in range(steps):
            frames = [self._bank.get_frame(self._next_frame + i) for i in range(stack)]
            self._next_frame += stack
            self._step(torch.from_numpy(np.concatenate(frames)))
        self._bank.pop(steps * stack)
        return steps

    def _step(self, stacked: Tensor) -> None:
        encoded = self._joint_encoder(self._encoder((stacked - self._mean) * self._scale))
        for _ in range(self.max_symbols):
            best = int(self._joint_output(torch.tanh(encoded + self._predicted)).argmax())
            if best == BLANK:
                return
            self.labels.append(best)
            self._advance(best)

    def _advance(self, label: int) -> None:
        self._predicted = self._joint_prediction(self._prediction(self._embedding[label]))
