"""ONNX graphs built node by node, without torch's exporter: LSTM, MatMul and elementwise nodes of a plain operator set.

Weights are fp32 initialisers, dense with zeros in them. With ``sparse`` those that gain by it are stored as sparse
initialisers: the file is smaller, and onnxruntime makes them dense when it loads the file, so nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cspbench.runtime.export.files import STATE

OPSET = 17
IR_VERSION = 8
GATES = (0, 3, 1, 2)  # torch has input, forget, cell, output; ONNX input, output, forget, cell
SPARSE_BYTES = 4 + 8  # a weight and its place, which the standard has as int64

Tensors = Mapping[str, np.ndarray]


class Graph:
    """Nodes and initialisers under construction. Names are unique because every step has one."""

    def __init__(self, sparse: bool) -> None:
        self.sparse = sparse
        self.nodes: list[onnx.NodeProto] = []
        self.dense: list[onnx.TensorProto] = []
        self.sparsed: list[onnx.SparseTensorProto] = []

    def weight(self, name: str, value: np.ndarray) -> str:
        """Add an initialiser, in the smaller form."""
        value = np.ascontiguousarray(value)
        places = np.flatnonzero(value)
        if self.sparse and value.ndim > 1 and len(places) * SPARSE_BYTES < value.nbytes:
            values = numpy_helper.from_array(value.reshape(-1)[places], name)
            indices = numpy_helper.from_array(places.astype(np.int64), f"{name}.places")
            self.sparsed.append(helper.make_sparse_tensor(values, indices, list(value.shape)))
        else:
            self.dense.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, name: str, inputs: list[str], outputs: list[str] | None = None, **options: Any) -> str:
        """Add a node; its first output, which has its name unless others are given."""
        self.nodes.append(helper.make_node(kind, inputs, outputs or [name], name=name, **options))
        return (outputs or [name])[0]

    def affine(self, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        """``x W^T + b`` along the last axis."""
        product = self.node("MatMul", f"{name}.product", [x, self.weight(f"{name}.weight", weight.T)])
        if bias is None:
            return product
        return self.node("Add", f"{name}.sum", [product, self.weight(f"{name}.bias", bias)])

    def split_state(self, parts: int) -> None:
        """Split ``hidden`` and ``cell``, (parts, N, H) each, into ``hidden.0``, ``cell.0``, ..., (1, N, H) each."""
        for kind in STATE:
            self.node("Split", f"split.{kind}", [kind], [f"{kind}.{i}" for i in range(parts)], axis=0)

    def join_state(self, parts: int) -> None:
        """Join ``hidden_out.0``, ``cell_out.0``, ... into ``hidden_out`` and ``cell_out``."""
        for kind in STATE:
            self.node("Concat", f"{kind}_out", [f"{kind}_out.{i}" for i in range(parts)], axis=0)

    @contextmanager
    def branch(self) -> Iterator[list[onnx.NodeProto]]:
        """Collect the nodes added within, for the graph of an ``If`` or ``Loop`` node; weights stay outside."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def lstm(self, name: str, x: str, state: Tensors, layers: int, prefix: str = "") -> str:
        """LSTM layers over x (N, T, C): layer i goes from ``hidden.i`` and ``cell.i`` to ``hidden_out.i``, ...

        Args:
            name: of the stack, in `state` and in the graph.
            x: name of the input.
            state: weights by the names of the model.
            layers: of the stack.
            prefix: of the names of the states.
        """
        x = self.node("Transpose", f"{name}.by_time", [x], perm=[1, 0, 2])
        for i in range(layers):
            x = self._layer(f"{name}.layers.{i}", x, i, state, prefix)
        return self.node("Transpose", f"{name}.by_stream", [x], perm=[1, 0, 2])

    def _layer(self, name: str, x: str, index: int, state: Tensors, prefix: str) -> str:
        def gates(kind: str) -> np.ndarray:
            own = state[f"{name}.{kind}_l0"]
            return own.reshape(4, -1, *own.shape[1:])[list(GATES)].reshape(own.shape)

        hidden = state[f"{name}.weight_hh_l0"].shape[1]
        inputs = [
            x,
            self.weight(f"{name}.input", gates("weight_ih")[None]),
            self.weight(f"{name}.recurrent", gates("weight_hh")[None]),
            self.weight(f"{name}.bias", np.concatenate([gates("bias_ih"), gates("bias_hh")])[None]),
            "",  # all of a batch have the same length
            f"{prefix}hidden.{index}",
            f"{prefix}cell.{index}",
        ]
        outputs = [f"{name}.y", f"{prefix}hidden_out.{index}", f"{prefix}cell_out.{index}"]
        y = self.node("LSTM", name, inputs, outputs, hidden_size=hidden)  # (T, directions, N, H)
        axis = self.weight(f"{name}.axis", np.array([1], np.int64))
        return self.node("Squeeze", f"{name}.squeezed", [y, axis])

    def model(self, name: str, inputs: list[Any], outputs: list[Any], metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Make the checked model of all nodes so far."""
        graph = helper.make_graph(
            self.nodes, name, inputs, outputs, initializer=self.dense, sparse_initializer=self.sparsed
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        made.producer_name = "cspbench"
        helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=not self.sparse)  # its shape inference knows no sparse initialisers
        return made


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Describe an input or output of a graph; sizes that vary have names."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def state_values(layers: int, width: int, suffix: str = "") -> list[onnx.ValueInfoProto]:
    """Describe the ``hidden`` and ``cell`` state of LSTM layers, (layers, N, H) each."""
    return [value(f"{kind}{suffix}", layers, "N", width) for kind in STATE]
