"""torch: its LSTM, a cell of `F.linear`, CSR matrices, and dynamic int8."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cspbench.bench.peers.engine import AbsentError, Contestant, Evict, StepEngine, Stepping, dense_bytes, seconds
from cspbench.bench.peers.workload import Layer, Work

LOOKAHEAD = 50
"""Steps of one call of engines that take whole sequences."""

Product = Callable[[Tensor], Tensor]


class Cell(Stepping):
    """Every layer one product ``W [x; h] + b``, then the gates, as eager operators."""

    def __init__(self, work: Work, product: Callable[[Layer], Product], setting: str, size: int) -> None:
        super().__init__(work)
        self.setting, self.bytes = setting, size
        self.products = [product(layer) for layer in work.layers]
        self.widths = [layer.width for layer in work.layers]
        self.reset()

    def reset(self) -> None:
        self.hidden = [torch.zeros(1, width) for width in self.widths]
        self.cells = [torch.zeros(1, width) for width in self.widths]

    def load(self, x: np.ndarray) -> None:
        self.x = torch.from_numpy(x)[None]

    def step(self) -> None:
        x = self.x
        for index, product in enumerate(self.products):
            i, f, g, o = product(torch.cat([x, self.hidden[index]], 1)).chunk(4, 1)
            cell = torch.addcmul(torch.sigmoid(f) * self.cells[index], torch.sigmoid(i), torch.tanh(g))
            x = torch.sigmoid(o) * torch.tanh(cell)
            self.hidden[index], self.cells[index] = x, cell

    def output(self) -> np.ndarray:
        return self.hidden[-1][0].numpy()


def dense_cell(work: Work) -> StepEngine:
    """The dense peer that the issue names."""

    def product(layer: Layer) -> Product:
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        return lambda x: functional.linear(x, weight, bias)

    return Cell(work, product, "F.linear on joined matrices, eager", dense_bytes(work, 4))


def csr_cell(work: Work, index: torch.dtype) -> StepEngine:
    """Products by torch's CSR layout with indices of the given type."""

    def product(layer: Layer) -> Product:
        weight, bias = to_csr(torch.from_numpy(layer.weight), index), torch.from_numpy(layer.bias)
        return lambda x: torch.addmv(bias, weight, x[0])[None]

    each = 4 + index.itemsize
    size = sum(np.count_nonzero(x.weight) * each + (len(x.weight) + 1) * index.itemsize for x in work.layers)
    return Cell(work, product, f"torch.addmv on CSR, {8 * index.itemsize}-bit indices, eager", int(size))


def to_csr(weight: Tensor, index: torch.dtype) -> Tensor:
    """A matrix in torch's CSR layout."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        csr = weight.to_sparse_csr()
        parts = csr.crow_indices().to(index), csr.col_indices().to(index), csr.values()
        return torch.sparse_csr_tensor(*parts, csr.shape, check_invariants=True)


def quantised_cell(work: Work) -> StepEngine:
    """Dynamically quantised linear layers in the place of `F.linear`."""

    def product(layer: Layer) -> Product:
        linear = nn.Linear(layer.weight.shape[1], len(layer.bias))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weight))
            linear.bias.copy_(torch.from_numpy(layer.bias))
        quantised = quantise(nn.Sequential(linear), nn.Linear)[0]
        if quantised.weight().dtype != torch.qint8:
            raise AbsentError("torch left a linear layer unquantised")
        return quantised

    setting = f"quantize_dynamic of nn.Linear on joined matrices, engine {torch.backends.quantized.engine}"
    return Cell(work, product, setting, dense_bytes(work, 1))


def quantise(module: nn.Module, kind: type[nn.Module]) -> Any:
    """Dynamic int8, per tensor, as torch does it. It replaces children alone: a bare LSTM would stay as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # announced to move to another package
        return torch.ao.quantization.quantize_dynamic(module, {kind}, dtype=torch.qint8)


class LSTM(Stepping):
    """`nn.LSTM`, one step a call."""

    onednn: ClassVar[bool] = True

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.module = self.prepare(lstm_module(work))
        self.layers, self.width = len(work.layers), work.layers[0].width
        self.bytes = dense_bytes(work, 4)
        self.setting = f"nn.LSTM, {'as it comes' if self.onednn else 'oneDNN off'}"
        self.reset()

    def prepare(self, module: nn.LSTM) -> Callable[..., Any]:
        return module

    def reset(self) -> None:
        self.state = (torch.zeros(self.layers, 1, self.width),) * 2

    def load(self, x: np.ndarray) -> None:
        self.x = torch.from_numpy(x)[None, None]

    def step(self) -> None:
        self.y, self.state = self.module(self.x, self.state)

    def output(self) -> np.ndarray:
        return self.y[0, 0].numpy()

    def outputs(self) -> np.ndarray:
        with onednn(self.onednn):
            return super().outputs()

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        with onednn(self.onednn):
            return super().times(steps, evict)


class PlainLSTM(LSTM):
    """The same by torch's own operators, which are faster at one step."""

    onednn = False


class QuantisedLSTM(LSTM):
    """Dynamic int8."""

    def prepare(self, module: nn.LSTM) -> Callable[..., Any]:
        quantised = quantise(nn.Sequential(module), nn.LSTM)[0]
        if "quantized" not in type(quantised).__module__:
            raise AbsentError("torch left the LSTM unquantised")
        return quantised

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.bytes = dense_bytes(work, 1)
        self.setting = f"quantize_dynamic of nn.LSTM, engine {torch.backends.quantized.engine}"


class TorchSequence(StepEngine):
    """An LSTM of torch over many steps in one call."""

    def __init__(self, inner: LSTM) -> None:
        self.inner = inner
        self.setting = f"{inner.setting}; {LOOKAHEAD} steps a call"
        self.bytes = inner.bytes

    def outputs(self) -> np.ndarray:
        self.inner.reset()
        with onednn(self.inner.onednn):
            y, _ = self.inner.module(torch.from_numpy(np.stack(self.inner.inputs))[:, None], self.inner.state)
        return y[:, 0].numpy()

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        each = np.resize(np.stack(self.inner.inputs), (LOOKAHEAD, self.inner.inputs[0].size))
        x = torch.from_numpy(each)[:, None]
        self.inner.reset()
        calls = -(-steps // LOOKAHEAD)
        with onednn(self.inner.onednn):
            return [seconds(lambda: self.inner.module(x, self.inner.state), evict) / LOOKAHEAD for _ in range(calls)]


def lstm_module(work: Work) -> nn.LSTM:
    """The weights in an `nn.LSTM`."""
    first = work.layers[0]
    module = nn.LSTM(first.inputs, first.width, len(work.layers)).eval().requires_grad_(False)
    for index, layer in enumerate(work.layers):
        joined = torch.from_numpy(layer.weight)
        getattr(module, f"weight_ih_l{index}").copy_(joined[:, : layer.inputs])
        getattr(module, f"weight_hh_l{index}").copy_(joined[:, layer.inputs :])
        getattr(module, f"bias_ih_l{index}").copy_(torch.from_numpy(layer.bias))
        getattr(module, f"bias_hh_l{index}").zero_()
    return module


@contextmanager
def onednn(enabled: bool) -> Any:
    """Let torch use oneDNN, or not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32")
        with torch.backends.mkldnn.flags(enabled=enabled):
            yield


CONTESTANTS = [
    Contestant("torch_lstm", "fp32", LSTM),
    Contestant("torch_lstm_plain", "fp32", PlainLSTM),
    Contestant("torch_dense", "fp32", dense_cell),
    Contestant("torch_csr_int64", "fp32", lambda work: csr_cell(work, torch.int64)),
    Contestant("torch_csr_int32", "fp32", lambda work: csr_cell(work, torch.int32)),
    Contestant("torch_int8_lstm", "int8", QuantisedLSTM),
    Contestant("torch_int8_cell", "int8", quantised_cell),
    Contestant("torch_lstm_sequence", "fp32", lambda work: TorchSequence(LSTM(work)), lookahead=True),
    Contestant("torch_int8_lstm_sequence", "int8", lambda work: TorchSequence(QuantisedLSTM(work)), lookahead=True),
]
