"""One linear layer of a transformer's size on one vector: torch, MKL, ONNX Runtime, OpenVINO, and ours, from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspbench.bench.peers import mkl, onnx_runtime, openvino_peer
from cspbench.bench.peers.engine import AbsentError, Contestant, Precision, Stepping, dense_bytes
from cspbench.bench.peers.onnx_graphs import Graph, empty_graph
from cspbench.bench.peers.torch_peers import quantise, to_csr
from cspbench.bench.peers.workload import Work
from cspbench.runtime import extension
from cspbench.runtime.layers import PackedLinear
from cspbench.runtime.packing import PackedMatrix
from cspbench.runtime.packing.choice import fastest


class TorchLayer(Stepping):
    """A module of torch, called eagerly; `make` makes it from `nn.Linear`."""

    def __init__(self, work: Work, make: Callable[[nn.Linear], nn.Module], setting: str, size: int) -> None:
        super().__init__(work)
        self.module, self.bytes = make(linear(*astuple(work.layers[0]))), size
        self.setting = f"{setting}; a call on 1 x 1 subtracted"
        smallest, x = make(linear(np.ones((1, 1), np.float32), np.zeros(1, np.float32))), torch.zeros(1, 1)
        self.empty = lambda: smallest(x)

    def reset(self) -> None: ...

    def load(self, x: np.ndarray) -> None:
        self.x = torch.from_numpy(x)[None]

    def step(self) -> None:
        self.y = self.module(self.x)

    def output(self) -> np.ndarray:
        return self.y[0].numpy()


class CSRLinear(nn.Module):
    """``y = W x + b`` with W in torch's CSR layout."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix, self.added = to_csr(layer.weight.detach(), torch.int32), layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmv(self.added, self.matrix, x[0])[None]


def linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """A layer in torch, of a weight (R, C) and a bias (R,)."""
    made = nn.Linear(weight.shape[1], len(weight)).eval().requires_grad_(False)
    made.weight.copy_(torch.from_numpy(weight))
    made.bias.copy_(torch.from_numpy(bias))
    return made


def dense(work: Work) -> TorchLayer:
    """`nn.Linear`."""
    return TorchLayer(work, lambda layer: layer, "nn.Linear, eager", dense_bytes(work, 4))


def csr(work: Work) -> TorchLayer:
    """CSR with 32-bit indices."""
    size = work.nonzeros * 8 + (len(work.layers[0].weight) + 1) * 4
    return TorchLayer(work, CSRLinear, "torch.addmv on CSR, 32-bit indices, eager", size)


def dynamic_int8(work: Work) -> TorchLayer:
    """Dynamic quantisation of torch."""
    setting = f"quantize_dynamic of nn.Linear, engine {torch.backends.quantized.engine}"
    return TorchLayer(work, lambda layer: quantise(nn.Sequential(layer), nn.Linear), setting, dense_bytes(work, 1))


def ours(work: Work, values: Precision) -> TorchLayer:
    """The layer that `cspbench.runtime.packed` puts in the place of `nn.Linear`."""
    try:
        extension.require("this engine")
    except extension.NativeError as error:
        raise AbsentError(str(error)) from error
    made: list[PackedMatrix] = []

    def packed(layer: nn.Linear) -> nn.Module:
        made.append(fastest(layer.weight.numpy(), values, "linear", lambda _: None))
        return PackedLinear(layer, {"weight": made[-1]})

    found = TorchLayer(work, packed, "packed nn.Linear", 0)
    found.bytes, found.setting = made[0].bytes, f"{found.setting}; chosen by the packer: {made[0].label}"
    return found


class MKLProduct(Stepping):
    """The product; the bias is left out of the time."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.matrix, self.added = mkl.Matrix(work.layers[0].weight), work.layers[0].bias
        self.product, self.bytes = mkl.library().mkl_sparse_s_mv, self.matrix.bytes
        self.setting = "mkl_sparse_s_mv on an optimised handle, sequential, no bias; a failing call is subtracted"

    def reset(self) -> None: ...

    def load(self, x: np.ndarray) -> None:
        self.matrix.x[:] = x

    def step(self) -> None:
        self.product(*self.matrix.arguments)

    def empty(self) -> None:
        self.product(*self.matrix.no_matrix)

    def output(self) -> np.ndarray:
        return self.matrix.y + self.added


class OnnxLayer(Stepping):
    """`MatMul` and `Add` in ONNX Runtime, on bound buffers."""

    def __init__(self, work: Work, quantised: bool = False) -> None:
        super().__init__(work)
        value = onnx_runtime.runtime().OrtValue.ortvalue_from_numpy
        model = _graph(work)
        if quantised:
            model = onnx_runtime.quantised_model(model, signed=True)
        self.x = value(np.zeros((1, work.layers[0].weight.shape[1]), np.float32))
        self.y = value(np.zeros((1, len(work.layers[0].bias)), np.float32))
        self.session, self.binding = _bound(model, self.x, self.y)
        small = [value(np.zeros((1, 1), np.float32)) for _ in range(2)]
        session, binding = _bound(empty_graph(), *small)
        self.empty = lambda: session.run_with_iobinding(binding)
        kinds = sorted({node.op_type for node in model.graph.node})
        self.setting = f"{', '.join(kinds)}; bound buffers, empty call subtracted"
        self.bytes = dense_bytes(work, 1 if quantised else 4)

    def reset(self) -> None: ...

    def load(self, x: np.ndarray) -> None:
        self.x.update_inplace(x[None])

    def step(self) -> None:
        self.session.run_with_iobinding(self.binding)

    def output(self) -> np.ndarray:
        return self.y.numpy()[0]


def _graph(work: Work) -> Any:
    layer, graph = work.layers[0], Graph()
    x = graph.input("x", [1, layer.weight.shape[1]])
    product = graph.node("MatMul", [x, graph.constant("w", layer.weight.T)], "product")
    graph.node("Add", [product, graph.constant("b", layer.bias)], "y")
    graph.output("y", [1, len(layer.bias)])
    return graph.model()


def _bound(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    session = onnx_runtime.make_session(model)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return session, binding


class OpenVINOLayer(Stepping):
    """A compiled product and bias in OpenVINO, on shared buffers."""

    def __init__(self, work: Work, precision: Precision) -> None:
        super().__init__(work)
        ov, layer = openvino_peer.openvino_module(), work.layers[0]
        compiled = openvino_peer.compile_model_for(self._model(work, precision), openvino_peer.HINT[precision])
        self.setting = f"{openvino_peer.check(compiled, precision)}; shared buffers, empty call subtracted"
        self.bytes = dense_bytes(work, openvino_peer.EACH[precision])
        self.x = np.zeros((1, layer.weight.shape[1]), np.float32)
        self.y = np.zeros((1, len(layer.bias)), np.float32)
        self.request = compiled.create_infer_request()
        self.request.set_tensor("x", ov.Tensor(self.x, shared_memory=True))
        self.request.set_tensor("y", ov.Tensor(self.y, shared_memory=True))
        self.empty = openvino_peer.empty_request().infer

    @staticmethod
    def _model(work: Work, precision: Precision) -> Any:
        from openvino import opset13 as op

        layer = work.layers[0]
        x = op.parameter([1, layer.weight.shape[1]], np.float32, name="x")
        product = op.matmul(x, openvino_peer.weight_of(layer, precision == "int8"), False, True)
        y = op.add(product, op.constant(layer.bias[None]))
        for node, name in ((x, "x"), (y, "y")):
            node.output(0).get_tensor().set_names({name})
        return openvino_peer.openvino_module().Model([y], [x], "linear")

    def reset(self) -> None: ...

    def load(self, x: np.ndarray) -> None:
        self.x[0] = x

    def step(self) -> None:
        self.request.infer()

    def output(self) -> np.ndarray:
        return self.y[0]


CONTESTANTS = [
    Contestant("torch_dense", "fp32", dense, kind="linear"),
    Contestant("torch_csr_int32", "fp32", csr, kind="linear"),
    Contestant("torch_int8", "int8", dynamic_int8, kind="linear"),
    Contestant("mkl_sparse", "fp32", MKLProduct, kind="linear"),
    Contestant("onnxruntime_matmul", "fp32", OnnxLayer, kind="linear"),
    Contestant("onnxruntime_int8_matmul", "int8", lambda work: OnnxLayer(work, quantised=True), kind="linear"),
    Contestant("openvino_fp32", "fp32", lambda work: OpenVINOLayer(work, "fp32"), kind="linear"),
    Contestant("openvino_int8", "int8", lambda work: OpenVINOLayer(work, "int8"), kind="linear"),
    Contestant("ours_fp32", "fp32", lambda work: ours(work, "fp32"), ours=True, kind="linear"),
    Contestant("ours_int8", "int8", lambda work: ours(work, "int8"), ours=True, kind="linear"),
]
