"""A transducer with a recurrent prediction network as sherpa-onnx runs it: the greedy search is part of the encoder.

Of the model types of sherpa-onnx that compute our features none gives the prediction network a state. The encoder
therefore holds all networks, and the state of the prediction network is part of its own. Its outputs are the logits of
`MAX_SYMBOLS` labels of a step; all after the first blank are blank. Decoder and joiner hand them on, so that the greedy
search of sherpa-onnx emits these labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.runtime.export.files import STATE
from cspbench.runtime.export.graph import Graph, Tensors, value
from cspbench.runtime.export.sherpa_graphs import encode, encoder_model, encoder_parts
from cspbench.spec import FeatureSpec

NETWORK = "prediction."
"""Before the names of the states of the prediction network, such as ``prediction.hidden.0``."""
OUTPUT = f"{NETWORK}output"
"""Output of the prediction network for the last label, projected: (1, N, J)."""


def encoder_graph(
    features: FeatureSpec, state: Tensors, first: Tensors, metadata: Mapping[str, str], sparse: bool
) -> onnx.ModelProto:
    """Log mel energies of one step (N, stack, mels) and the state -> logits (N, MAX_SYMBOLS, V) and the next state.

    Behind the parts of the encoder's state come those of the layers of the prediction network, and one with its last
    output. The cell state beside that is zero before the first step, as all of the state is in sherpa-onnx, and then
    one.

    Args:
        features: the front end.
        state: weights by the names of the model.
        first: state and output of the prediction network after the blank with which an utterance begins, (1, 1, P or
            J), by the names ``prediction.hidden.0``, ..., ``prediction.output``.
        metadata: of the model.
        sparse: store matrices with many zeros as sparse initialisers.
    """
    graph = Graph(sparse)
    own, width = encoder_parts(features, state), state["joint_encoder.weight"].shape[1]
    last = own + len(first) // len(STATE)  # the part with the output
    places = {f"{NETWORK}{kind}.{i}": (kind, own + i) for i in range(last - own) for kind in STATE}
    places[OUTPUT] = ("hidden", last)
    graph.split_state(last + 1)

    encoded = graph.node("Transpose", "encoded", [encode(graph, features, state)], perm=[1, 0, 2])  # (1, N, J)
    widths = {name: first[name].shape[-1] for name in places}
    flag = _columns(graph, f"cell.{last}", 1)
    graph.node("Cast", "started", [flag], to=TensorProto.BOOL)  # (1, N, 1)
    begin = {}
    for name, (kind, part) in places.items():
        carried = _columns(graph, f"{kind}.{part}", widths[name])
        new = graph.weight(f"{name}.first", first[name])
        begin[name] = graph.node("Where", f"{name}.begin", ["started", carried, new])
    _search(graph, encoded, begin, widths, state)
    for name, (kind, part) in places.items():
        _widen(graph, f"{kind}_out.{part}", f"{name}.after", width - widths[name])
    shape = graph.node("Shape", "part.shape", [f"cell.{last}"])
    one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    graph.node("ConstantOfShape", f"cell_out.{last}", [shape], value=one)
    graph.join_state(last + 1)
    return encoder_model(graph, features, last + 1, width, len(state["joint_output.weight"]), metadata)


def decoder_graph(units: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The last label (N, 1) -> a number (N, 1) that the joiner does not use."""
    graph = Graph(sparse=False)
    graph.node("Cast", "decoder_out", ["y"], to=TensorProto.FLOAT)
    known = {"vocab_size": str(units), "context_size": "1"}
    label, made = value("y", "N", 1, kind=TensorProto.INT64), value("decoder_out", "N", 1)
    return graph.model("decoder", [label], [made], {**metadata, **known})


def joiner_graph(units: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Logits of one label (N, V), which the encoder has computed, and what the decoder makes -> these logits."""
    graph = Graph(sparse=False)
    graph.node("Identity", "logits", ["encoded"])
    inputs = [value("encoded", "N", units), value("predicted", "N", 1)]
    return graph.model("joiner", inputs, [value("logits", "N", units)], metadata)


def _search(graph: Graph, encoded: str, begin: Mapping[str, str], widths: Mapping[str, int], state: Tensors) -> None:
    """Add the search over one step, which makes ``encoder_out`` and, of each name in `begin`, ``NAME.after``.

    Args:
        graph: of the encoder.
        encoded: (1, N, J).
        begin: state and output of the prediction network, (1, N, P or J), by their names in the search.
        widths: their sizes, P or J.
        state: weights.
    """
    units = len(state["joint_output.weight"])
    with graph.branch() as nodes:
        _emit(graph, encoded, state)
        branches = {"then_branch": _advanced(graph, widths, state), "else_branch": _kept(graph, widths)}
        graph.node("If", "search.advance", ["search.any"], [f"{name}.next" for name in widths], **branches)
    flags = [value("search.going", 1, kind=TensorProto.BOOL), value("search.active", 1, "N", 1, kind=TensorProto.BOOL)]
    going = [value("search.any", kind=TensorProto.BOOL), value("search.emits", 1, "N", 1, kind=TensorProto.BOOL)]
    inputs = [value("search.count", 1, kind=TensorProto.INT64), *flags, *_values(widths, "")]
    outputs = [*going, *_values(widths, ".next"), value("search.logits", 1, "N", units)]
    body = helper.make_graph(nodes, "search", inputs, outputs)

    most, on = _integers(graph, "search.most", MAX_SYMBOLS), graph.weight("search.on", np.array([True]))
    shape = graph.node("Shape", "search.shape", ["started"])
    true = helper.make_tensor("value", TensorProto.BOOL, [1], [True])
    everyone = graph.node("ConstantOfShape", "search.everyone", [shape], value=true)
    after = ["search.left", *(f"{name}.after" for name in widths), "search.all"]
    graph.node("Loop", "search", [most, on, everyone, *begin.values()], after, body=body)
    logits = graph.node("Squeeze", "search.found", ["search.all", _integers(graph, "axis.one", 1)])  # (labels, N, V)
    # The last is blank where there are fewer than `MAX_SYMBOLS`; it stands for those that are missing.
    labels = graph.node("Shape", "search.labels", [logits], start=0, end=1)
    missing = graph.node("Sub", "search.missing", [_integers(graph, "search.limit", MAX_SYMBOLS), labels])
    none, rest = _integers(graph, "search.none", 0, 0, 0), _integers(graph, "search.rest", 0, 0)
    pads = graph.node("Concat", "search.pads", [none, missing, rest], axis=0)
    padded = graph.node("Pad", "search.padded", [logits, pads], mode="edge")
    graph.node("Transpose", "encoder_out", [padded], perm=[1, 0, 2])


def _emit(graph: Graph, encoded: str, state: Tensors) -> None:
    """Add the logits of the next label, those of streams without one, and whether any stream has one."""
    units = len(state["joint_output.weight"])
    x = graph.node("Tanh", "search.bent", [graph.node("Add", "search.together", [encoded, OUTPUT])])
    x = graph.affine("joint_output", x, state["joint_output.weight"], state["joint_output.bias"])
    blanks = graph.weight("search.blanks", np.eye(1, units, BLANK, dtype=np.float32)[None])
    logits = graph.node("Where", "search.logits", ["search.active", x, blanks])
    best = graph.node("ArgMax", "search.best", [logits], axis=2, keepdims=1)  # (1, N, 1)
    blank = graph.node("Equal", "search.blank", [best, _integers(graph, "blank", BLANK)])
    emits = graph.node("Not", "search.emits", [blank])
    number = graph.node("Cast", "search.emits.number", [emits], to=TensorProto.INT32)
    graph.node(
        "Cast", "search.any", [graph.node("ReduceMax", "search.most.emits", [number], keepdims=0)], to=TensorProto.BOOL
    )


def _advanced(graph: Graph, widths: Mapping[str, int], state: Tensors) -> onnx.GraphProto:
    """Make the branch in which the prediction network advances, in streams that have a label."""
    layers = (len(widths) - 1) // len(STATE)
    with graph.branch() as nodes:
        label = graph.node("Squeeze", "search.label", ["search.best", _integers(graph, "axis.zero", 0)])  # (N, 1)
        x = graph.node("Gather", "embedded", [graph.weight("embedding", state["embedding.weight"]), label])
        x = graph.lstm("prediction", x, state, layers, NETWORK)
        x = graph.affine("joint_prediction", x, state["joint_prediction.weight"], None)
        new = {f"{NETWORK}{kind}.{i}": f"{NETWORK}{kind}_out.{i}" for i in range(layers) for kind in STATE}
        new[OUTPUT] = graph.node("Transpose", f"{OUTPUT}.new", [x], perm=[1, 0, 2])
        for name in widths:
            graph.node("Where", f"{name}.then", ["search.emits", new[name], name])
    return helper.make_graph(nodes, "advanced", [], _values(widths, ".then"))


def _kept(graph: Graph, widths: Mapping[str, int]) -> onnx.GraphProto:
    """Make the branch in which no stream has a label."""
    with graph.branch() as nodes:
        for name in widths:
            graph.node("Identity", f"{name}.else", [name])
    return helper.make_graph(nodes, "kept", [], _values(widths, ".else"))


def _values(widths: Mapping[str, int], suffix: str) -> list[onnx.ValueInfoProto]:
    return [value(f"{name}{suffix}", 1, "N", width) for name, width in widths.items()]


def _columns(graph: Graph, part: str, count: int) -> str:
    """The first columns of a part of the state, (1, N, count)."""
    bounds = [_integers(graph, f"{part}.{what}", i) for what, i in (("from", 0), ("to", count), ("of", 2))]
    return graph.node("Slice", f"{part}.columns", [part, *bounds])


def _widen(graph: Graph, name: str, columns: str, missing: int) -> None:
    """Make a part of the next state: zeros beside the columns."""
    pads = _integers(graph, f"{name}.missing", 0, 0, 0, 0, 0, missing)
    graph.node("Pad", name, [columns, pads])


def _integers(graph: Graph, name: str, *values: int) -> str:
    return graph.weight(name, np.array(values, np.int64))
