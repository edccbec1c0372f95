"""Encoder, decoder and joiner of a transducer as sherpa-onnx runs them: its model type ``lstm``.

Inputs and outputs go by their order. The decoder is the prediction network, which is given the last labels.

sherpa-onnx computes log-mel features and nothing more. The rest of our front end is part of the encoder: floor,
reference level, stacking, normalisation.

Its greedy search emits at most one label for each output of the encoder; ours emits up to `MAX_SYMBOLS` in a step. The
encoder therefore repeats the output of every step as often. Once a repetition is blank, those after it are as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from cspbench.asr.tokenizer import MAX_SYMBOLS
from cspbench.runtime.export.graph import Graph, Tensors, state_values, value
from cspbench.spec import FeatureSpec


def encoder_graph(features: FeatureSpec, state: Tensors, metadata: Mapping[str, str], sparse: bool) -> onnx.ModelProto:
    """Log mel energies of one step (N, stack, mels) and the state -> (N, MAX_SYMBOLS, J) and the next state.

    The state is hidden and cell state of the layers and, for features that are relative to a level, one slab more: see
    `_relative`. sherpa-onnx begins with zeros.
    """
    graph = Graph(sparse)
    parts = encoder_parts(features, state)
    graph.split_state(parts)
    x = encode(graph, features, state)
    graph.join_state(parts)
    graph.node("Concat", "encoder_out", [x] * MAX_SYMBOLS, axis=1)
    joint, width = state["joint_encoder.weight"].shape
    return encoder_model(graph, features, parts, width, joint, metadata)


def encoder_parts(features: FeatureSpec, state: Tensors) -> int:
    """Parts of the state that `encode` uses: one for each layer of the encoder, and one for the reference level."""
    layers = sum(name.startswith("encoder.") and name.endswith("weight_hh_l0") for name in state)
    return layers + (features.level_fall is not None)


def encode(graph: Graph, features: FeatureSpec, state: Tensors) -> str:
    """Add what maps log mel energies ``x`` (N, stack, mels) of one step to its encoding (N, 1, J)."""
    width, parts = state["joint_encoder.weight"].shape[1], encoder_parts(features, state)
    layers = parts - (features.level_fall is not None)
    x = "x" if features.floor is None else _floored(graph, "x", features.floor)
    if features.level_fall is not None:
        x = _relative(graph, x, features, layers, width)
    x = _reshaped(graph, "stacked", x, [0, 1, features.stack * features.mels])
    mean, scale = (np.tile(state[name], features.stack) for name in ("feature_mean", "feature_scale"))
    x = graph.node("Sub", "centred", [x, graph.weight("feature_mean", mean)])
    x = graph.node("Mul", "normalised", [x, graph.weight("feature_scale", scale)])
    x = graph.lstm("encoder", x, state, layers)
    return graph.affine("joint_encoder", x, state["joint_encoder.weight"], state["joint_encoder.bias"])


def encoder_model(
    graph: Graph, features: FeatureSpec, parts: int, width: int, outputs: int, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Make the model of an encoder.

    Args:
        graph: its nodes, from ``x`` and the state to ``encoder_out`` and the next state.
        features: the front end.
        parts: of the state.
        width: of the state.
        outputs: numbers of an output.
        metadata: more of it.
    """
    known = {
        "model_type": "lstm",
        "num_encoder_layers": str(parts),
        "T": str(features.stack),
        "decode_chunk_len": str(features.stack),
        "rnn_hidden_size": str(width),
        "d_model": str(width),
    }
    step, encoded = value("x", "N", features.stack, features.mels), value("encoder_out", "N", MAX_SYMBOLS, outputs)
    before, after = state_values(parts, width), state_values(parts, width, "_out")
    return graph.model("encoder", [step, *before], [encoded, *after], {**metadata, **known})


def _floored(graph: Graph, x: str, floor: float) -> str:
    """Add the floor to the energies: x = log(exp(x) + exp(floor))."""
    energies = graph.node("Exp", "energies", [x])
    added = graph.weight("floor", np.array([math.exp(floor)], np.float32))
    return graph.node("Log", "floored", [graph.node("Add", "energies_floored", [energies, added])])


def _relative(graph: Graph, x: str, features: FeatureSpec, part: int, width: int) -> str:
    """Subtract the reference level from log energies (N, T, mels): `ReferenceLevel.relate` for T = stack frames.

    The state before the first frame must be zeros. What is carried are therefore exp(reference), in column 0 of part
    `part` of the hidden state, and exp(-background), in column 0 of that of the cell state: their logarithms are -inf
    and inf at first, as they should be.
    """
    assert features.level_fall is not None
    frames = np.arange(features.stack)
    since = frames[:, None] - np.arange(-1, features.stack)[None]  # frames from the state (first column) to each frame
    fallen = np.where(since >= 0, -features.level_fall * since, -np.inf).astype(np.float32)  # (T, T + 1)
    unseen = np.where(since >= 0, 0, np.inf).astype(np.float32)
    levels = graph.node("ReduceMean", "levels", [x], axes=[2], keepdims=0)  # (N, T)

    reference = graph.node("Log", "reference", [_first_column(graph, f"hidden.{part}")])  # (N, 1)
    background = graph.node(
        "Neg", "background", [graph.node("Log", "above_zero", [_first_column(graph, f"cell.{part}")])]
    )
    quietest = _scan(graph, "quietest", "ReduceMin", background, levels, unseen)
    above = graph.weight("level_above", np.array([features.level_above], np.float32))
    least = graph.node("Add", "least", [quietest, above])
    followed = levels if features.level_follows_background else graph.node("Max", "followed", [levels, least])
    references = _scan(graph, "references", "ReduceMax", reference, followed, fallen)

    _keep(graph, f"hidden_out.{part}", references, features.stack, width)
    _keep(graph, f"cell_out.{part}", graph.node("Neg", "below_zero", [quietest]), features.stack, width)
    level = graph.node("Max", "level", [references, least])
    last = graph.weight("axis.mels", np.array([2], np.int64))
    return graph.node("Sub", "relative", [x, graph.node("Unsqueeze", "level.of_frames", [level, last])])


def _scan(graph: Graph, name: str, kind: str, before: str, values: str, offsets: np.ndarray) -> str:
    """Running minimum or maximum (N, T) of values (N, T) and a state (N, 1) before them, after adding (T, T + 1)."""
    both = graph.node("Concat", f"{name}.both", [before, values], axis=1)  # (N, T + 1)
    row = graph.node("Unsqueeze", f"{name}.row", [both, graph.weight(f"{name}.axis", np.array([1], np.int64))])
    offset = graph.node("Add", f"{name}.offset", [row, graph.weight(f"{name}.offsets", offsets)])  # (N, T, T + 1)
    return graph.node(kind, name, [offset], axes=[2], keepdims=0)


def _first_column(graph: Graph, part: str) -> str:
    """Column 0 of a part of the state (1, N, H), as (N, 1)."""
    bounds = [
        graph.weight(f"{part}.{what}", np.array([i], np.int64)) for what, i in (("from", 0), ("to", 1), ("of", 2))
    ]
    column = graph.node("Slice", f"{part}.column", [part, *bounds])  # (1, N, 1)
    return graph.node("Squeeze", f"{part}.value", [column, bounds[0]])


def _keep(graph: Graph, part: str, values: str, frames: int, width: int) -> None:
    """Make a part of the next state (1, N, H): exp of the last of values (N, T) in column 0, zeros beside it."""
    bounds = [
        graph.weight(f"{part}.{what}", np.array([i], np.int64))
        for what, i in (("from", frames - 1), ("to", frames), ("of", 1))
    ]
    last = graph.node("Exp", f"{part}.exp", [graph.node("Slice", f"{part}.last", [values, *bounds])])  # (N, 1)
    row = graph.node("Unsqueeze", f"{part}.row", [last, graph.weight(f"{part}.axis", np.array([0], np.int64))])
    padding = np.array([0, 0, 0, 0, 0, width - 1], np.int64)
    graph.node("Pad", part, [row, graph.weight(f"{part}.padding", padding)])


def _reshaped(graph: Graph, name: str, x: str, sizes: list[int]) -> str:
    """Reshape; a size of 0 stays as it is."""
    return graph.node("Reshape", name, [x, graph.weight(f"{name}.sizes", np.array(sizes, np.int64))])


def decoder_graph(state: Tensors, metadata: Mapping[str, str], sparse: bool) -> onnx.ModelProto:
    """The last labels (N, context) -> (N, J). Labels before the first are -1 or blank, and both count as blank."""
    graph = Graph(sparse)
    embedding = state["prediction.embedding.weight"]
    units, width = embedding.shape
    context = state["prediction.linear.weight"].shape[1] // width
    labels = graph.node("Max", "labels", ["y", graph.weight("blank", np.array([0], np.int64))])
    x = graph.node("Gather", "embedded", [graph.weight("embedding", embedding), labels])
    x = _reshaped(graph, "window", x, [0, context * width])
    x = graph.affine("prediction", x, state["prediction.linear.weight"], state["prediction.linear.bias"])
    x = graph.node("Relu", "predicted", [x])
    x = graph.affine("joint_prediction", x, state["joint_prediction.weight"], None)
    graph.node("Identity", "decoder_out", [x])
    outputs = [value("decoder_out", "N", len(state["joint_prediction.weight"]))]
    known = {"vocab_size": str(units), "context_size": str(context)}
    inputs = [value("y", "N", context, kind=TensorProto.INT64)]
    return graph.model("decoder", inputs, outputs, {**metadata, **known})
