"""Export of packed recognisers to ONNX, checked against what torch computes, and a recogniser on onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cspbench.asr.tokenizer import BLANK
from cspbench.runtime.export.files import ExportError, compare, facts_json, open_session
from cspbench.runtime.packing.model import PackedModel
from cspbench.runtime.packing.pack import float_state
from cspbench.store import write_atomic

if TYPE_CHECKING:
    import onnx

    from cspbench.asr.trained import TrainedModel

PARTS = ("encoder", "prediction", "joint")
CHECKED = (2, 25)
"""Streams and frames (and labels) of noise on which an export is checked."""


def part_path(out: Path, part: str) -> Path:
    """``name.onnx`` -> ``name.encoder.onnx``: an ONNX file holds one graph, and a transducer has three."""
    return out.with_suffix("").with_name(f"{out.with_suffix('').name}.{part}.onnx")


def export_onnx(model: PackedModel, out: Path | str, *, sparse: bool = False) -> dict[str, Path]:
    """Write encoder, prediction network and joint as ONNX files; see `onnx_graphs` for inputs and outputs.

    Args:
        model: its weights are exported as fp32, decoded from whatever they are packed in.
        out: ``name.onnx``; the parts become ``name.encoder.onnx``, ``name.prediction.onnx``, ``name.joint.onnx``.
        sparse: store matrices with many zeros as sparse initialisers, which OpenVINO cannot read.

    Raises:
        ExportError: the packages of the extra ``export`` are not installed.
    """
    graphs = transducer_graphs(model.trained(), sparse=sparse)
    paths = {part: part_path(Path(out), part) for part in PARTS}
    for part, path in paths.items():
        write_atomic(path, graphs[part].SerializeToString(deterministic=True))
    return paths


def transducer_graphs(trained: TrainedModel, *, sparse: bool = False) -> dict[str, onnx.ModelProto]:
    """Make the graphs of an ``lstm_transducer`` by the names in `PARTS`; see `export_onnx`.

    Raises:
        ExportError: the packages of the extra ``export`` are not installed.
        CspbenchError: another recogniser.
    """
    try:
        from cspbench.runtime.export import onnx_graphs
    except ImportError as error:
        raise ExportError(f"exporting needs onnx ({error}); pip install 'cspbench[export]'") from error
    shape, state, metadata = trained.transducer.shape, float_state(trained.model), {"cspbench": facts_json(trained)}
    return {
        "encoder": onnx_graphs.encoder_graph(shape, state, metadata, sparse),
        "prediction": onnx_graphs.prediction_graph(shape, state, metadata, sparse),
        "joint": onnx_graphs.joint_graph(state, metadata, sparse),
    }


class OnnxTransducer:
    """An exported model on onnxruntime: its three networks, and greedy search over one stream.

    Args:
        out: what `export_onnx` was given.
        threads: of onnxruntime, in each network.
    """

    def __init__(self, out: Path | str, threads: int = 1) -> None:
        self._sessions = {part: open_session(part_path(Path(out), part), threads) for part in PARTS}
        self.metadata = json.loads(self._sessions["encoder"].get_modelmeta().custom_metadata_map["cspbench"])

    def zero_state(self, part: str, streams: int = 1) -> list[np.ndarray]:
        """Hidden and cell state before the first frame or label, (layers, N, H) each."""
        shapes = [i.shape for i in self._sessions[part].get_inputs()[1:]]
        return [np.zeros((layers, streams, width), np.float32) for layers, _, width in shapes]

    def encode(self, features: np.ndarray, state: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Features (N, T, C) -> encodings (N, T, J) and the state after them."""
        return self._recur("encoder", {"features": features}, state)

    def predict(self, labels: np.ndarray, state: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Labels (N, U) int64 -> predictions (N, U, J) and the state after them."""
        return self._recur("prediction", {"labels": labels}, state)

    def joint(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Encodings and predictions, (N, J) each -> logits (N, V)."""
        return self._sessions["joint"].run(["logits"], {"encoded": encoded, "predicted": predicted})[0]

    def greedy(self, features: np.ndarray) -> list[int]:
        """Labels of one stream's features (T, C), fed one frame at a time as they would arrive."""
        labels: list[int] = []
        listening, speaking = self.zero_state("encoder"), self.zero_state("prediction")
        predicted, speaking = self.predict(np.array([[BLANK]]), speaking)
        for frame in features.astype(np.float32):
            encoded, listening = self.encode(frame[None, None], listening)
            for _ in range(self.metadata["max_symbols"]):
                best = int(self.joint(encoded[:, 0], predicted[:, 0]).argmax())
                if best == BLANK:
                    break
                labels.append(best)
                predicted, speaking = self.predict(np.array([[best]]), speaking)
        return labels

    def _recur(
        self, part: str, inputs: Mapping[str, np.ndarray], state: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        hidden, cell = state
        result, *after = self._sessions[part].run(None, {**inputs, "hidden": hidden, "cell": cell})
        return result, after


def check_export(model: PackedModel, out: Path | str) -> dict[str, float]:
    """Largest difference between onnxruntime and torch for each network, relative to the largest output.

    Both get the same noise, and the second half of it from the state that the first half left.

    Raises:
        ExportError: a difference beyond `cspbench.runtime.export.files.TOLERANCE`.
    """
    import torch

    exported, reference = OnnxTransducer(out), model.trained().transducer
    rng = np.random.default_rng(0)
    streams, frames = CHECKED
    shape, mels = model.header.model.shape, model.header.model.mels
    spread = np.tile(1 / np.maximum(model.vectors["feature_scale"], 1e-6), shape.inputs // mels)
    middle = np.tile(model.vectors["feature_mean"], shape.inputs // mels)
    features = (rng.standard_normal((streams, frames, shape.inputs)) * spread + middle).astype(np.float32)
    labels = rng.integers(1, shape.units, (streams, frames))
    half = frames // 2
    state, said = exported.zero_state("encoder", streams), exported.zero_state("prediction", streams)
    first, state = exported.encode(features[:, :half], state)
    encoded = np.concatenate([first, exported.encode(features[:, half:], state)[0]], axis=1)
    first, said = exported.predict(labels[:, :half], said)
    predicted = np.concatenate([first, exported.predict(labels[:, half:], said)[0]], axis=1)
    logits = exported.joint(encoded.reshape(-1, shape.joint_width), predicted.reshape(-1, shape.joint_width))
    with torch.no_grad():
        theirs = reference.joint_encoder(reference.forward_encoder(reference.normalise(torch.from_numpy(features)))[0])
        spoken = reference.joint_prediction(reference.forward_prediction(torch.from_numpy(labels))[0])
        joined = reference.forward_joint(theirs, spoken).flatten(0, 1)
    pairs = {"encoder": (encoded, theirs), "prediction": (predicted, spoken), "joint": (logits, joined)}
    return compare({part: (ours, other.numpy()) for part, (ours, other) in pairs.items()})
