"""The three networks of a transducer as ONNX graphs: encoder, prediction network, joint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from cspbench.runtime.export.graph import Graph, Tensors, state_values, value


def encoder_graph(shape: Any, state: Tensors, metadata: Mapping[str, str], sparse: bool) -> onnx.ModelProto:
    """``features`` (N, T, C), not normalised, and the state -> ``encoded`` (N, T, J) and the next state."""
    graph = Graph(sparse)
    stack = shape.inputs // len(state["feature_mean"])
    mean, scale = (np.tile(state[name], stack) for name in ("feature_mean", "feature_scale"))
    centred = graph.node("Sub", "centred", ["features", graph.weight("feature_mean", mean)])
    x = graph.node("Mul", "normalised", [centred, graph.weight("feature_scale", scale)])
    graph.split_state(shape.encoder_layers)
    x = graph.lstm("encoder", x, state, shape.encoder_layers)
    graph.join_state(shape.encoder_layers)
    x = graph.affine("joint_encoder", x, state["joint_encoder.weight"], state["joint_encoder.bias"])
    graph.node("Identity", "encoded", [x])
    states = state_values(shape.encoder_layers, shape.encoder_width)
    after = state_values(shape.encoder_layers, shape.encoder_width, "_out")
    inputs = [value("features", "N", "T", shape.inputs), *states]
    return graph.model("encoder", inputs, [value("encoded", "N", "T", shape.joint_width), *after], metadata)


def prediction_graph(shape: Any, state: Tensors, metadata: Mapping[str, str], sparse: bool) -> onnx.ModelProto:
    """``labels`` (N, U) and the state -> ``predicted`` (N, U, J) and the next state. First comes the blank, 0."""
    graph = Graph(sparse)
    x = graph.node("Gather", "embedded", [graph.weight("embedding", state["embedding.weight"]), "labels"])
    graph.split_state(shape.prediction_layers)
    x = graph.lstm("prediction", x, state, shape.prediction_layers)
    graph.join_state(shape.prediction_layers)
    x = graph.affine("joint_prediction", x, state["joint_prediction.weight"], None)
    graph.node("Identity", "predicted", [x])
    states = state_values(shape.prediction_layers, shape.prediction_width)
    after = state_values(shape.prediction_layers, shape.prediction_width, "_out")
    inputs = [value("labels", "N", "U", kind=TensorProto.INT64), *states]
    return graph.model("prediction", inputs, [value("predicted", "N", "U", shape.joint_width), *after], metadata)


def joint_graph(state: Tensors, metadata: Mapping[str, str], sparse: bool) -> onnx.ModelProto:
    """``encoded`` and ``predicted``, one frame and one label (N, J) each -> ``logits`` (N, V) of the next label."""
    graph = Graph(sparse)
    units, width = state["joint_output.weight"].shape
    together = graph.node("Add", "together", ["encoded", "predicted"])
    x = graph.node("Tanh", "bent", [together])
    x = graph.affine("joint_output", x, state["joint_output.weight"], state["joint_output.bias"])
    graph.node("Identity", "logits", [x])
    inputs = [value(name, "N", width) for name in ("encoded", "predicted")]
    return graph.model("joint", inputs, [value("logits", "N", units)], metadata)
