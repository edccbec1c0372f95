"""The torch decoder as an engine: dense, and CSR where there is no native module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.sparse import SparseSemiStructuredTensor

from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import Tokenizer
from cspbench.runtime.latency.engine import Traffic, wall_clock
from cspbench.runtime.streaming import StreamingRecogniser, Weights, _Affine, _LSTMCell
from cspbench.spec import FeatureSpec

WORDS = {"dense": "torch eager, dense fp32", "csr": "torch eager, CSR fp32, 32-bit indices"}


class TorchEngine:
    """`StreamingRecogniser`, measured.

    Args:
        name: under which it is reported.
        model: its weights are copied.
        tokenizer: its units.
        features: its front end.
        sample_rate: Hz.
        weights: ``dense`` or ``csr``.
    """

    stopwatch = staticmethod(wall_clock)

    def __init__(
        self,
        name: str,
        model: Transducer,
        tokenizer: Tokenizer,
        features: FeatureSpec,
        sample_rate: int,
        weights: Weights = "dense",
    ) -> None:
        self.name = name
        self.description = f"{WORDS[weights]}; torch {torch.__version__}"
        self._recogniser = StreamingRecogniser(model, tokenizer, features, sample_rate, weights)
        self.state_bytes = sum(_bytes(cell.hidden) + _bytes(cell.cell) for cell in cells(self._recogniser))
        self.count()

    def count(self) -> None:
        """Count the bytes of the weights as they are now."""
        self.traffic = _traffic(self._recogniser)
        self.weight_bytes = _weight_bytes(self._recogniser)

    def reset(self) -> None:
        self._recogniser.reset()

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        known = len(self._recogniser.labels)
        self._recogniser.accept(samples)
        return self._recogniser.labels[known:]

    def finish(self) -> list[int]:
        return []  # every label is known as soon as its step is


def cells(recogniser: StreamingRecogniser) -> list[_LSTMCell]:
    """Its LSTM layers."""
    return [*recogniser._encoder.cells, *recogniser._prediction.cells]


def affines(r: StreamingRecogniser) -> list[_Affine]:
    """Everything with a matrix."""
    return [*(cell.affine for cell in cells(r)), r._joint_encoder, r._joint_prediction, r._joint_output]


def _weight_bytes(r: StreamingRecogniser) -> int:
    return sum(map(_affine, affines(r))) + _bytes(r._embedding) + _bytes(r._mean) + _bytes(r._scale)


def _traffic(r: StreamingRecogniser) -> Traffic:
    encoder = sum(_affine(cell.affine) for cell in r._encoder.cells) + _bytes(r._mean) + _bytes(r._scale)
    prediction = sum(_affine(cell.affine) for cell in r._prediction.cells) + _bytes(r._embedding[0])
    return Traffic(
        step=encoder + _affine(r._joint_encoder),
        joint=_affine(r._joint_output),
        label=prediction + _affine(r._joint_prediction),
        max_symbols=r.max_symbols,
    )


def _affine(affine: _Affine) -> int:
    return _bytes(affine.weight) + _bytes(affine.bias)


def _bytes(tensor: Tensor) -> int:
    if isinstance(tensor, SparseSemiStructuredTensor):
        cells = tensor.shape[0] * tensor.shape[1]
        return cells // 2 * tensor.element_size() + cells // 8  # half of the values, and two bits for the place of each
    if tensor.layout is torch.sparse_csr:
        return sum(map(_bytes, (tensor.crow_indices(), tensor.col_indices(), tensor.values())))
    return tensor.numel() * tensor.element_size()
