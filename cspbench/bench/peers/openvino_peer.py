"""OpenVINO: a cell of plain operators, which it runs faster than its LSTM operator, at a given precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from cspbench.bench.peers.engine import AbsentError, Contestant, Precision, Stepping, dense_bytes
from cspbench.bench.peers.workload import Layer, Work

HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
EACH = {"fp32": 4, "bf16": 2, "int8": 1}
PRODUCT = "FullyConnected"


def openvino_module() -> Any:
    """The package.

    Raises:
        AbsentError: it is not installed.
    """
    try:
        import openvino
        from openvino import opset13  # noqa: F401
    except ImportError:
        raise AbsentError("not installed: pip install 'cspbench[peers]'") from None
    return openvino


class Compiled(Stepping):
    """A compiled cell, one step a call; two requests share the two copies of the state and alternate."""

    def __init__(self, work: Work, precision: Precision) -> None:
        super().__init__(work)
        ov = openvino_module()
        compiled = compile_model_for(_model(work, precision == "int8"), HINT[precision])
        self.setting = f"cell; {check(compiled, precision)}; one stream, shared buffers, empty call subtracted"
        self.bytes = dense_bytes(work, EACH[precision])
        self.x = np.zeros((1, work.layers[0].inputs), np.float32)
        sizes = {f"{kind}{i}": layer.width for i, layer in enumerate(work.layers) for kind in "hc"}
        self.states = [{name: np.zeros((1, size), np.float32) for name, size in sizes.items()} for _ in range(2)]
        self.top = f"h{len(work.layers) - 1}"
        self.parity = 0
        self.requests = []
        for before, after in (self.states, self.states[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor("x", ov.Tensor(self.x, shared_memory=True))
            for name in before:
                request.set_tensor(name, ov.Tensor(before[name], shared_memory=True))
                request.set_tensor(f"next_{name}", ov.Tensor(after[name], shared_memory=True))
            self.requests.append(request)
        self.empty = empty_request().infer

    def reset(self) -> None:
        for state in self.states:
            for array in state.values():
                array[:] = 0

    def load(self, x: np.ndarray) -> None:
        self.x[0] = x
        self.parity = 1 - self.parity

    def step(self) -> None:
        self.requests[self.parity].infer()

    def output(self) -> np.ndarray:
        return self.states[1 - self.parity][self.top][0]


def compile_model_for(model: Any, hint: str) -> Any:
    """Compile a model for one stream on one thread, at the precision of a hint."""
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # the process is pinned already
    }
    return openvino_module().Core().compile_model(model, "CPU", settings)


def check(compiled: Any, precision: Precision) -> str:
    """Return the precision and kernel of the products, in words.

    Raises:
        AbsentError: that is not the precision that OpenVINO was given.
    """
    found: set[tuple[str, str]] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        if info.get("layerType") == PRODUCT:
            found.add((info["runtimePrecision"], info["primitiveType"]))
    wanted = {"fp32": "f32", "bf16": "bf16", "int8": "i8"}[precision]
    if {kind for kind, _ in found} != {wanted}:
        ran = ", ".join(sorted({kind for kind, _ in found})) or "no product of the kind that was expected"
        raise AbsentError(f"given {wanted}, OpenVINO would run {ran} on this processor")
    return ", ".join(f"{PRODUCT} in {kind} by {primitive}" for kind, primitive in sorted(found))


def _model(work: Work, compressed: bool) -> Any:
    from openvino import opset13 as op

    def parameter(name: str, size: int) -> Any:
        made = op.parameter([1, size], np.float32, name=name)
        made.output(0).get_tensor().set_names({name})
        return made

    current = parameter("x", work.layers[0].inputs)
    parameters, results = [current], []
    for index, layer in enumerate(work.layers):
        h, c = parameter(f"h{index}", layer.width), parameter(f"c{index}", layer.width)
        parameters += [h, c]
        product = op.matmul(op.concat([current, h], 1), weight_of(layer, compressed), False, True)
        split = op.split(op.add(product, op.constant(layer.bias[None])), op.constant(np.int64(1)), 4)
        i, f, g, o = split.outputs()
        cell = op.add(op.multiply(op.sigmoid(f), c), op.multiply(op.sigmoid(i), op.tanh(g)))
        current = op.multiply(op.sigmoid(o), op.tanh(cell))
        for name, node in ((f"next_h{index}", current), (f"next_c{index}", cell)):
            node.output(0).get_tensor().set_names({name})
            results.append(node)
    return openvino_module().Model(results, parameters, "cell")


def weight_of(layer: Layer, compressed: bool) -> Any:
    """The matrix, or int8 values that are scaled by row in the graph: OpenVINO's own form of compressed weights."""
    from openvino import opset13 as op

    if not compressed:
        return op.constant(layer.weight)
    largest = np.abs(layer.weight).max(1, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    values = np.rint(layer.weight / scale).astype(np.int8)
    return op.multiply(op.convert(op.constant(values), "f32"), op.constant(scale))


def empty_request() -> Any:
    """A request that does next to nothing, for the cost of a call."""
    from openvino import opset13 as op

    ov = openvino_module()
    x = op.parameter([1, 1], np.float32, name="x")
    return compile_model_for(ov.Model([op.relu(x)], [x], "empty"), "f32").create_infer_request()


CONTESTANTS = [
    Contestant("openvino_fp32", "fp32", lambda work: Compiled(work, "fp32")),
    Contestant("openvino_bf16", "bf16", lambda work: Compiled(work, "bf16")),
    Contestant("openvino_int8", "int8", lambda work: Compiled(work, "int8")),
]
