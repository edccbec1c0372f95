"""The work as ONNX graphs: of `LSTM` operators over any number of steps, or of one step in plain operators.

State comes in as h0, c0, h1, ... and goes out as next_h0, next_c0, ...
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cspbench.bench.peers.workload import Layer, Work

OPSET, IR_VERSION = 17, 9


class Graph:
    """A graph in the making."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._numpy, self._float = helper, numpy_helper, TensorProto.FLOAT
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operator of one output, and return the name of that."""
        self.nodes.append(self._helper.make_node(kind, inputs, [output], **attributes))
        return output

    def nodes_of(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add an operator of several outputs."""
        self.nodes.append(self._helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(self._numpy.from_array(np.ascontiguousarray(value), name))
        return name

    def input(self, name: str, shape: list[int | str]) -> str:
        self.inputs.append(self._helper.make_tensor_value_info(name, self._float, shape))
        return name

    def output(self, name: str, shape: list[int | str]) -> None:
        self.outputs.append(self._helper.make_tensor_value_info(name, self._float, shape))

    def model(self) -> Any:
        """The finished `onnx.ModelProto`."""
        graph = self._helper.make_graph(self.nodes, "lstm", self.inputs, self.outputs, self.constants)
        versions = [self._helper.make_opsetid("", OPSET)]
        return self._helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)


def lstm_graph(work: Work) -> Any:
    """x (T, 1, C) -> y (T, 1, H); states (1, 1, H)."""
    graph = Graph()
    current = graph.input("x", ["T", 1, work.layers[0].inputs])
    directions = graph.constant("directions", np.array([1], np.int64))
    for index, layer in enumerate(work.layers):
        state: list[int | str] = [1, 1, layer.width]
        before = [graph.input(f"{kind}{index}", state) for kind in "hc"]
        joined = _gates_in_order(layer.weight)
        bias = np.concatenate([_gates_in_order(layer.bias), np.zeros_like(layer.bias)])
        weights = {"w": joined[:, : layer.inputs], "r": joined[:, layer.inputs :], "b": bias}
        names = [graph.constant(f"{key}{index}", value[None]) for key, value in weights.items()]
        after = [f"next_{kind}{index}" for kind in "hc"]
        graph.nodes_of(
            "LSTM", [current, *names, "", *before], [f"y{index}", *after], hidden_size=layer.width, name=f"lstm{index}"
        )
        for name in after:
            graph.output(name, state)
        top = index == len(work.layers) - 1
        current = graph.node("Squeeze", [f"y{index}", directions], "y" if top else f"x{index + 1}")
    graph.output("y", ["T", 1, work.layers[-1].width])
    return graph.model()


def cell_graph(work: Work) -> Any:
    """x (1, C); states (1, H). The output is next_h of the top layer."""
    graph = Graph()
    current = graph.input("x", [1, work.layers[0].inputs])
    for index, layer in enumerate(work.layers):
        current = _cell(graph, layer, index, current)
    return graph.model()


def _cell(graph: Graph, layer: Layer, index: int, x: str) -> str:
    def name(key: str) -> str:
        return f"{key}{index}"

    state: list[int | str] = [1, layer.width]
    h, c = graph.input(name("h"), state), graph.input(name("c"), state)
    weight = graph.constant(name("w"), layer.weight.T)
    bias = graph.constant(name("b"), layer.bias)
    four = graph.constant(name("sizes"), np.full(4, layer.width, np.int64))
    product = graph.node("MatMul", [graph.node("Concat", [x, h], name("xh"), axis=1), weight], name("product"))
    gates = graph.node("Add", [product, bias], name("gates"))
    graph.nodes_of("Split", [gates, four], [name(f"{key}_in") for key in "ifgo"], axis=1)
    i, f, o = (graph.node("Sigmoid", [name(f"{key}_in")], name(f"{key}_gate")) for key in "ifo")
    g = graph.node("Tanh", [name("g_in")], name("g_gate"))
    kept = graph.node("Mul", [f, c], name("kept"))
    added = graph.node("Mul", [i, g], name("added"))
    cell = graph.node("Add", [kept, added], name("next_c"))
    hidden = graph.node("Mul", [o, graph.node("Tanh", [cell], name("squashed"))], name("next_h"))
    graph.output(hidden, state)
    graph.output(cell, state)
    return hidden


def empty_graph() -> Any:
    """A graph that hands one number on: what a call costs."""
    graph = Graph()
    graph.node("Identity", [graph.input("x", [1, 1])], "y")
    graph.output("y", [1, 1])
    return graph.model()


def _gates_in_order(rows: np.ndarray) -> np.ndarray:
    """From torch's i f g o to ONNX's i o f g."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])
