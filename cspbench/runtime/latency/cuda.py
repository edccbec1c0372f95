"""The same protocol on CUDA: the torch decoder with its weights on the device, timed by device events.

Weights are dense, CSR, or 2:4 semi-structured (two of every four adjacent weights are zero, which tensor cores skip). A
step ends when the host knows its labels, so that launches, and waiting for the label, are part of it: at batch 1 they
are most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import Tokenizer
from cspbench.errors import CspbenchError
from cspbench.runtime.latency.engine import Result
from cspbench.runtime.latency.torch_engine import TorchEngine, affines, cells
from cspbench.runtime.streaming import _Affine
from cspbench.spec import FeatureSpec

Layout = Literal["dense", "csr", "2:4"]
SMALLEST_BATCH = 8
"""Columns that the 2:4 product takes at least: all but the first are zero here."""


def device_events(call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Stopwatch of an engine on CUDA: time between two events on its stream, one before and one after all it does."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    result = call(*arguments)
    after.record()
    after.synchronize()
    return result, before.elapsed_time(after) / 1000


class CudaEngine(TorchEngine):
    """The torch decoder on a device.

    Args:
        name: under which it is reported.
        model: its weights are copied.
        tokenizer: its units.
        features: its front end.
        sample_rate: Hz.
        layout: of its matrices. ``2:4`` holds them in half precision and drops the two smallest of every four weights:
            it shows what the hardware gains, on a recogniser whose labels mean little unless it was pruned that way.
            The joint's output, whose rows are as many as there are units, stays dense.
        device: where it runs: the processor too, but for 2:4.

    Raises:
        CspbenchError: 2:4 without CUDA, or for a matrix whose shape the device does not take.
    """

    stopwatch = staticmethod(device_events)

    def __init__(
        self,
        name: str,
        model: Transducer,
        tokenizer: Tokenizer,
        features: FeatureSpec,
        sample_rate: int,
        layout: Layout = "dense",
        device: str = "cuda",
    ) -> None:
        super().__init__(name, model, tokenizer, features, sample_rate, "csr" if layout == "csr" else "dense")
        self._device = torch.device(device)
        words = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else device
        self.description = f"torch {torch.__version__} on {words}, {layout}"
        recogniser = self._recogniser
        for affine in affines(recogniser):
            affine.weight, affine.bias = affine.weight.to(self._device), affine.bias.to(self._device)
        for field in ("_embedding", "_mean", "_scale"):
            setattr(recogniser, field, getattr(recogniser, field).to(self._device))
        step = recogniser._step
        # Features come from the processor; they are what crosses over in each step.
        recogniser._step = lambda stacked: step(stacked.to(self._device))  # type: ignore[method-assign]
        if layout == "2:4":
            self._halve()
        self.reset()

    def reset(self) -> None:
        with self._device:  # states are made where the weights lie
            super().reset()

    def _halve(self) -> None:
        """Make every matrix but the joint's output a 2:4 one."""
        if self._device.type != "cuda":
            raise CspbenchError("2:4 products need a CUDA device")
        recogniser = self._recogniser
        for cell in cells(recogniser):
            cell.affine = HalvedAffine(cell.affine)
        recogniser._joint_encoder = HalvedAffine(recogniser._joint_encoder)
        recogniser._joint_prediction = HalvedAffine(recogniser._joint_prediction)
        self.count()


class HalvedAffine(_Affine):
    """``y = W x + b`` for one vector with a 2:4 matrix in half precision."""

    def __init__(self, affine: _Affine) -> None:
        try:
            self.weight = to_sparse_semi_structured(two_of_four(affine.weight).half())
        except (RuntimeError, ValueError) as error:
            shape = tuple(affine.weight.shape)
            raise CspbenchError(f"a matrix {shape} cannot be 2:4 on this device: {error}") from error
        self.bias = affine.bias
        self._inputs = torch.zeros(
            SMALLEST_BATCH, affine.weight.shape[1], dtype=torch.half, device=affine.weight.device
        )

    def __call__(self, x: Tensor) -> Tensor:
        self._inputs[0] = x
        return nn.functional.linear(self._inputs, self.weight)[0].float() + self.bias


def two_of_four(weight: Tensor) -> Tensor:
    """Zero the two smallest of every four adjacent weights of a row (out, in); of equal ones the later."""
    groups = weight.unflatten(1, (-1, 4))
    order = groups.abs().argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :2], True)
    return torch.where(keep, groups, 0).flatten(1)
