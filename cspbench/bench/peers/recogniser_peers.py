"""Whole recognisers on the runtimes of others: one stream on one thread, from samples to labels.

The weights are those of the recogniser, as `cspbench export` writes them. In int8 ONNX Runtime's dynamic quantisation
has been applied to every network. Of an ``lstm_transducer`` in sherpa-onnx it leaves joint and prediction network in
floating point, as they are part of the search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.asr.trained import TrainedModel
from cspbench.bench.peers.engine import AbsentError, Precision
from cspbench.bench.peers.onnx_runtime import make_session, quantised_model, runtime
from cspbench.corpora.frames import flush
from cspbench.errors import CspbenchError
from cspbench.runtime.export.files import STATE
from cspbench.runtime.export.onnx_export import transducer_graphs
from cspbench.runtime.export.sherpa_export import NETWORKS, export_sherpa, recognizer_options, tail_seconds
from cspbench.runtime.latency.engine import Engine, wall_clock
from cspbench.runtime.online_features import OnlineFeatures


class Network:
    """A network in ONNX Runtime, on arrays that are bound beforehand, so that none is copied.

    Args:
        model: its inputs and outputs; those called ``hidden`` and ``cell`` are its state.
        arrays: all other inputs and outputs, by name. What another network has already is shared with it.
    """

    def __init__(self, model: Any, arrays: dict[str, NDArray[Any]]) -> None:
        self._session, self._arrays = make_session(model), arrays
        self._values = {v.name: v for v in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._states = [{name: _zeros(self._values[name]) for name in STATE if name in self._values} for _ in range(2)]
        self._bindings = [self._bind(*self._states), self._bind(*self._states[::-1])]

    def run(self) -> None:
        """Compute the outputs from the inputs; the next state goes to the other of two copies."""
        self._session.run_with_iobinding(self._bindings[0])
        self._bindings.reverse()

    def reset(self) -> None:
        """Set the state to zeros."""
        for state in self._states:
            for array in state.values():
                array.fill(0)

    def _bind(self, before: dict[str, NDArray[Any]], after: dict[str, NDArray[Any]]) -> Any:
        binding = self._session.io_binding()
        following = {f"{name}_out": array for name, array in after.items()}
        for value in self._session.get_inputs():
            binding.bind_input(value.name, "cpu", 0, *self._buffer(value, before))
        for value in self._session.get_outputs():
            binding.bind_output(value.name, "cpu", 0, *self._buffer(value, following))
        return binding

    def _buffer(self, value: Any, state: dict[str, NDArray[Any]]) -> tuple[Any, list[int], int]:
        array = state[value.name] if value.name in state else self._arrays.setdefault(value.name, _zeros(value))
        return array.dtype.type, _shape(value), array.ctypes.data


class OnnxEngine:
    """An ``lstm_transducer`` in ONNX Runtime: its three networks, our front end and greedy search around them.

    Raises:
        AbsentError: onnx or onnxruntime is not installed, or another recogniser.
    """

    stopwatch = staticmethod(wall_clock)
    traffic = None
    file_bytes: int | None = None

    def __init__(self, name: str, trained: TrainedModel, precision: Precision) -> None:
        runtime()
        if not trained.has_packed_file:
            raise AbsentError("only 'lstm_transducer' is exported to three networks with states")
        graphs = transducer_graphs(trained)
        if precision == "int8":
            graphs = {part: quantised_model(graph, signed=True) for part, graph in graphs.items()}
        self.name, self.description = name, f"onnxruntime, {_words(precision)}, bound arrays; search in Python"
        self.weight_bytes, self.state_bytes = weight_bytes(graphs.values()), state_bytes(graphs.values())
        self._arrays: dict[str, NDArray[Any]] = {}
        parts = [Network(graphs[part], self._arrays) for part in ("encoder", "prediction", "joint")]
        self._encoder, self._prediction, self._joint = parts
        self._front_end = OnlineFeatures(trained.features, trained.sample_rate)
        self._flush = flush(trained.features, trained.sample_rate)
        self.reset()

    def reset(self) -> None:
        self._front_end.reset()
        self._encoder.reset()
        self._prediction.reset()
        self._predict(BLANK)

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        emitted: list[int] = []
        for row in self._front_end.accept(samples):
            self._arrays["features"][0, 0] = row
            self._encoder.run()
            emitted += self._search()
        return emitted

    def finish(self) -> list[int]:
        return self.accept(self._flush)

    def _search(self) -> list[int]:
        emitted: list[int] = []
        while len(emitted) < MAX_SYMBOLS:
            self._joint.run()
            best = int(self._arrays["logits"].argmax())
            if best == BLANK:
                break
            emitted.append(best)
            self._predict(best)
        return emitted

    def _predict(self, label: int) -> None:
        self._arrays["labels"][0, 0] = label
        self._prediction.run()


class SherpaEngine:
    """An ``lstm_transducer`` or ``stateless_transducer`` in sherpa-onnx: mel energies, networks and search, all native.

    Raises:
        AbsentError: sherpa-onnx, onnx or onnxruntime is not installed, or a recogniser that cannot be exported.
    """

    stopwatch = staticmethod(wall_clock)
    traffic = None
    file_bytes: int | None = None

    def __init__(self, name: str, trained: TrainedModel, precision: Precision) -> None:
        runtime()
        try:
            import onnx
            import sherpa_onnx
        except ImportError:
            raise AbsentError("not installed: pip install 'cspbench[peers]'") from None
        with tempfile.TemporaryDirectory() as folder:
            try:
                paths = export_sherpa(trained, Path(folder))
            except CspbenchError as error:
                raise AbsentError(str(error)) from error
            graphs = [onnx.load(paths[part]) for part in NETWORKS]
            if precision == "int8":
                graphs = [quantised_model(graph, signed=True) for graph in graphs]
                for part, graph in zip(NETWORKS, graphs, strict=True):
                    onnx.save(graph, paths[part])
            self._recogniser = sherpa_onnx.OnlineRecognizer.from_transducer(
                **{part: str(path) for part, path in paths.items()}, num_threads=1, **recognizer_options(trained)
            )
        self.name, self.description = name, f"sherpa-onnx, {_words(precision)}{_search(trained, precision)}"
        self.weight_bytes, self.state_bytes = weight_bytes(graphs), state_bytes(graphs)
        units = trained.tokenizer
        self._labels = {units.decode_more([i], "before"): i for i in range(1, units.size)}
        self._rate = trained.sample_rate
        self._tail = np.zeros(round(self._rate * tail_seconds(trained)), np.float32)
        self.reset()

    def reset(self) -> None:
        self._stream = self._recogniser.create_stream()
        self._known = 0

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        self._stream.accept_waveform(self._rate, samples)
        return self._decode()

    def finish(self) -> list[int]:
        self._stream.accept_waveform(self._rate, self._tail)
        self._stream.input_finished()
        return self._decode()

    def _decode(self) -> list[int]:
        while self._recogniser.is_ready(self._stream):
            self._recogniser.decode_stream(self._stream)
        units = self._recogniser.tokens(self._stream)[self._known :]
        self._known += len(units)
        return [self._labels[unit] for unit in units]


@dataclass(frozen=True)
class RecogniserPeer:
    """A runtime of others that a recogniser may be exported to.

    Attributes:
        name: unique.
        precision: of its weights.
        engine: makes it from that name, a recogniser and the precision; raises `AbsentError` where it cannot run it.
    """

    name: str
    precision: Precision
    engine: Callable[[str, TrainedModel, Precision], Engine]

    def make(self, trained: TrainedModel) -> Engine:
        """Make the engine."""
        return self.engine(self.name, trained, self.precision)


PEERS = (
    RecogniserPeer("onnxruntime", "fp32", OnnxEngine),
    RecogniserPeer("onnxruntime_int8", "int8", OnnxEngine),
    RecogniserPeer("sherpa_onnx", "fp32", SherpaEngine),
    RecogniserPeer("sherpa_onnx_int8", "int8", SherpaEngine),
)


def weight_bytes(graphs: Any) -> int:
    """Bytes of all initialisers."""
    from onnx import numpy_helper

    return sum(numpy_helper.to_array(each).nbytes for graph in graphs for each in graph.graph.initializer)


def state_bytes(graphs: Any) -> int:
    """Bytes of all states of one stream, float32."""
    shapes = [_sizes(value) for graph in graphs for value in graph.graph.input if value.name in STATE]
    return sum(4 * int(np.prod(shape)) for shape in shapes)


def _sizes(value: Any) -> list[int]:
    return [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]


def _words(precision: Precision) -> str:
    return "fp32" if precision == "fp32" else "quantize_dynamic to int8"


def _search(trained: TrainedModel, precision: Precision) -> str:
    if not trained.has_packed_file:
        return ", its greedy search"
    return ", greedy search within the encoder" + (" in fp32" if precision == "int8" else "")


def _shape(value: Any) -> list[int]:
    """Sizes of an input or output for one stream and one step."""
    return [size if isinstance(size, int) else 1 for size in value.shape]


def _zeros(value: Any) -> NDArray[Any]:
    return np.zeros(_shape(value), np.int64 if "int64" in value.type else np.float32)
