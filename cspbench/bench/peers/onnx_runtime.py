"""ONNX Runtime: its LSTM operator and a cell of plain operators, fp32 and dynamically quantised."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cspbench.bench.peers import onnx_graphs
from cspbench.bench.peers.engine import AbsentError, Contestant, Evict, StepEngine, Stepping, dense_bytes, seconds
from cspbench.bench.peers.torch_peers import LOOKAHEAD
from cspbench.bench.peers.workload import Work
from cspbench.runtime.export.files import import_onnxruntime

QUANTISED = {"DynamicQuantizeLSTM", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
FLOAT = {"LSTM", "MatMul", "Gemm"}


def runtime() -> Any:
    """The package, quiet.

    Raises:
        AbsentError: it is not installed.
    """
    try:
        import onnx  # noqa: F401

        onnxruntime = import_onnxruntime()
    except ImportError:
        raise AbsentError("not installed: pip install 'cspbench[peers]'") from None
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def make_session(model: Any) -> Any:
    """A session on one thread."""
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Session(Stepping):
    """A graph, one step a call. Inputs, outputs and both copies of the state are bound beforehand: none is copied."""

    def __init__(self, work: Work, model: Any, setting: str, each: int) -> None:
        super().__init__(work)
        self.setting, self.bytes = f"{setting}; bound buffers, empty call subtracted", dense_bytes(work, each)
        self.session = make_session(model)
        value = runtime().OrtValue.ortvalue_from_numpy
        shapes = {item.name: item.shape for item in self.session.get_inputs()}
        self.shape = [1 if isinstance(size, str) else size for size in shapes.pop("x")]
        self.x = value(np.zeros(self.shape, np.float32))
        self.states = [{n: value(np.zeros(s, np.float32)) for n, s in shapes.items()} for _ in range(2)]
        self.top = f"h{len(work.layers) - 1}"
        self.bindings = [self._bind(self.states[0], self.states[1]), self._bind(self.states[1], self.states[0])]
        self.parity = 0
        self._prepare_empty(value)

    def _bind(self, before: dict[str, Any], after: dict[str, Any]) -> Any:
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("x", self.x)
        for name in before:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"next_{name}", after[name])
        if any(item.name == "y" for item in self.session.get_outputs()):
            binding.bind_output("y", "cpu")
        return binding

    def _prepare_empty(self, value: Callable[[np.ndarray], Any]) -> None:
        session = make_session(onnx_graphs.empty_graph())
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", value(np.zeros((1, 1), np.float32)))
        binding.bind_ortvalue_output("y", value(np.zeros((1, 1), np.float32)))
        self.empty = lambda: session.run_with_iobinding(binding)

    def reset(self) -> None:
        for state in self.states:
            for value in state.values():
                value.update_inplace(np.zeros(value.shape(), np.float32))

    def load(self, x: np.ndarray) -> None:
        self.x.update_inplace(x.reshape(self.shape))
        self.parity = 1 - self.parity

    def step(self) -> None:
        self.session.run_with_iobinding(self.bindings[self.parity])

    def output(self) -> np.ndarray:
        return self.states[1 - self.parity][self.top].numpy().reshape(-1)


class OnnxSequence(StepEngine):
    """The LSTM graph over many steps in one call."""

    def __init__(self, inner: Session) -> None:
        self.session, self.bytes = inner.session, inner.bytes
        self.setting = f"{inner.setting}; {LOOKAHEAD} steps a call"
        self.x = np.stack(inner.inputs)[:, None]
        self.state = {name: np.zeros(value.shape(), np.float32) for name, value in inner.states[0].items()}

    def outputs(self) -> np.ndarray:
        return self.session.run(["y"], {"x": self.x, **self.state})[0][:, 0]

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        feeds = {"x": np.resize(self.x, (LOOKAHEAD, *self.x.shape[1:])), **self.state}
        calls = -(-steps // LOOKAHEAD)
        return [seconds(lambda: self.session.run(["y"], feeds), evict) / LOOKAHEAD for _ in range(calls)]


def lstm(work: Work) -> Session:
    """The `LSTM` operator."""
    runtime()
    return Session(work, onnx_graphs.lstm_graph(work), "LSTM operators", 4)


def cell(work: Work) -> Session:
    """One `MatMul` a layer."""
    runtime()
    return Session(work, onnx_graphs.cell_graph(work), "cell of MatMul and plain operators", 4)


def quantised(work: Work, graph: Callable[[Work], Any], words: str, signed: bool) -> Session:
    """The same, dynamically quantised: weights to (un)signed int8 per tensor.

    Raises:
        AbsentError: a product was left in floating point.
    """
    runtime()
    model = quantised_model(graph(work), signed)
    kinds = QUANTISED & _kinds(model)
    return Session(
        work, model, f"{words}, quantize_dynamic to {'int8' if signed else 'uint8'}: {', '.join(sorted(kinds))}", 1
    )


def quantised_model(model: Any, signed: bool) -> Any:
    """The model after dynamic quantisation, weights (un)signed int8 per tensor; as it is if it has no product.

    The quantiser leaves graphs inside nodes (`Loop`, `If`) as they are, if their weights lie outside.

    Raises:
        AbsentError: a product was left in floating point.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not _kinds(model) & FLOAT:
        return model
    with tempfile.TemporaryDirectory() as folder, _less_said():
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, str(before))
        kind = QuantType.QInt8 if signed else QuantType.QUInt8
        quantize_dynamic(before, after, weight_type=kind)
        made = onnx.load(str(after))
    if left := _kinds(made) & FLOAT:
        raise AbsentError(f"ONNX Runtime left products unquantised: {sorted(left)}")
    return made


def _kinds(model: Any) -> set[str]:
    return {node.op_type for node in model.graph.node}


@contextmanager
def _less_said() -> Iterator[None]:
    """The quantiser recommends a preparation (shapes, folding) that these graphs do not need."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _quantised_lstm(work: Work, signed: bool = True) -> Session:
    return quantised(work, onnx_graphs.lstm_graph, "LSTM operators", signed)


def _quantised_cell(work: Work) -> Session:
    return quantised(work, onnx_graphs.cell_graph, "cell", signed=True)


CONTESTANTS = [
    Contestant("onnxruntime_lstm", "fp32", lstm),
    Contestant("onnxruntime_cell", "fp32", cell),
    Contestant("onnxruntime_int8_lstm", "int8", _quantised_lstm),
    Contestant("onnxruntime_uint8_lstm", "int8", lambda work: _quantised_lstm(work, signed=False)),
    Contestant("onnxruntime_int8_cell", "int8", _quantised_cell),
    Contestant("onnxruntime_lstm_sequence", "fp32", lambda work: OnnxSequence(lstm(work)), lookahead=True),
    Contestant(
        "onnxruntime_int8_lstm_sequence", "int8", lambda work: OnnxSequence(_quantised_lstm(work)), lookahead=True
    ),
]
