"""Export of transducers with an LSTM encoder as folders that the package sherpa-onnx loads."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cspbench.asr.recognisers.stateless import StatelessTransducer
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS, WORD_START, Tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.features import log_energies
from cspbench.corpora.frames import ReferenceLevel
from cspbench.runtime.export.files import (
    STATE,
    ExportError,
    compare,
    facts_json,
    import_onnxruntime,
    open_session,
)
from cspbench.runtime.packing.pack import float_state
from cspbench.store import write_atomic

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

    from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer

NETWORKS = ("encoder", "decoder", "joiner")
TOKENS = "tokens.txt"
FRAME_MS = (25.0, 10.0)
"""Window and hop of sherpa-onnx; its packages for Python and other languages have no option for them."""
COUNTED_MS = 40
"""Time that sherpa-onnx takes for one output of an encoder."""
TOLERANCE = 1e-4
"""Largest difference from torch, relative to the largest output: energies are taken back from their logarithms."""
CHECKED = (3, 20)
"""Streams and steps of noise on which an export is checked."""


def export_sherpa(trained: TrainedModel, folder: Path, *, sparse: bool = False) -> dict[str, Path]:
    """Write ``encoder.onnx``, ``decoder.onnx``, ``joiner.onnx`` and ``tokens.txt``.

    Args:
        trained: a ``stateless_transducer``, see `sherpa_graphs`, or an ``lstm_transducer``, see `sherpa_search`.
        folder: made if it is not there.
        sparse: store matrices with many zeros as sparse initialisers.

    Returns:
        The files by name: encoder, decoder, joiner, tokens.

    Raises:
        ExportError: a recogniser, front end or unit that sherpa-onnx cannot have, or onnx is not installed.
    """
    _check_recogniser(trained)
    tokens = _tokens(trained.tokenizer)
    graphs = _graphs(trained, sparse)
    folder.mkdir(exist_ok=True)
    paths = {part: folder / f"{part}.onnx" for part in NETWORKS} | {"tokens": folder / TOKENS}
    for part, graph in graphs.items():
        write_atomic(paths[part], graph.SerializeToString(deterministic=True))
    write_atomic(paths["tokens"], tokens.encode())
    return paths


def _graphs(trained: TrainedModel, sparse: bool) -> dict[str, onnx.ModelProto]:
    try:
        from cspbench.runtime.export import onnx_graphs, sherpa_graphs, sherpa_search
    except ImportError as error:
        raise ExportError(f"exporting needs onnx ({error}); pip install 'cspbench[export]'") from error
    metadata, state = {"cspbench": facts_json(trained)}, float_state(trained.model)
    if trained.has_packed_file:
        units, first = trained.tokenizer.size, _first(trained.transducer)
        return {
            "encoder": sherpa_search.encoder_graph(trained.features, state, first, metadata, sparse),
            "decoder": sherpa_search.decoder_graph(units, metadata),
            "joiner": sherpa_search.joiner_graph(units, metadata),
        }
    return {
        "encoder": sherpa_graphs.encoder_graph(trained.features, state, metadata, sparse),
        "decoder": sherpa_graphs.decoder_graph(state, metadata, sparse),
        "joiner": onnx_graphs.joint_graph(state, metadata, sparse),
    }


def _first(model: LSTMTransducer) -> dict[str, np.ndarray]:
    """State and output of the prediction network with which an utterance begins, by their names in `sherpa_search`."""
    import torch

    from cspbench.runtime.export.sherpa_search import NETWORK, OUTPUT

    with torch.no_grad():
        predicted, states = model.forward_prediction(torch.tensor([[BLANK]]))
        found = {OUTPUT: model.joint_prediction(predicted)}
    for index, layer in enumerate(states):
        found |= {f"{NETWORK}{kind}.{index}": part for kind, part in zip(STATE, layer, strict=True)}
    return {name: tensor.float().numpy() for name, tensor in found.items()}


def recognizer_options(trained: TrainedModel) -> dict[str, Any]:
    """Keyword arguments of ``sherpa_onnx.OnlineRecognizer.from_transducer`` for the front end of a recogniser."""
    return {
        "sample_rate": trained.sample_rate,
        "feature_dim": trained.features.mels,
        "low_freq": 20.0,
        "high_freq": 0.0,
        "normalize_samples": False,
        "snip_edges": True,
        "model_type": "lstm",
    }


def tail_seconds(trained: TrainedModel) -> float:
    """Silence that follows an utterance, seconds: the flush, and a frame without which the last step is not decoded."""
    return (trained.features.flush_ms + trained.features.hop_ms) / 1000


def time_factor(trained: TrainedModel) -> float:
    """Times of sherpa-onnx (timestamps, trailing silence of endpoint rules) over true times."""
    return MAX_SYMBOLS * COUNTED_MS / (trained.features.hop_ms * trained.features.stack)


def usage(trained: TrainedModel) -> str:
    """Markdown on how the folder is loaded, and in what sherpa-onnx differs from cspbench."""
    files = [f'    tokens="{TOKENS}",', *(f'    {part}="{part}.onnx",' for part in NETWORKS)]
    options = [f"    {name}={value!r}," for name, value in recognizer_options(trained).items()]
    code = ["```python", "recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(", *files, *options, ")", "```"]
    notes = [
        "All options are needed: they make the features on which the recogniser was trained. Decode greedily.",
        f"Let {tail_seconds(trained):g} s of zeros follow an utterance, for its last labels.",
        f"Timestamps and the trailing silence of endpoint rules are {time_factor(trained):.4g} times as long as in "
        f"truth: {MAX_SYMBOLS} outputs of the encoder are one step.",
    ]
    if trained.has_packed_file:
        notes.append("The search is part of the encoder: beam search, hotwords and `blank_penalty` do not work.")
    return "\n".join([*code, "", *notes])


def check_sherpa(trained: TrainedModel, folder: Path) -> dict[str, float]:
    """Largest difference between onnxruntime and torch for each network, relative to the largest output.

    The encoder gets log mel energies step by step, from several streams at once, as sherpa-onnx gives them.

    Raises:
        ExportError: a difference beyond `TOLERANCE`, or files that are not there.
    """
    import torch

    features = trained.features
    sessions = {part: open_session(folder / f"{part}.onnx") for part in NETWORKS}
    streams, steps = CHECKED
    energies = np.random.default_rng(0).uniform(0, 20, (streams, steps * features.stack, features.mels))
    given = energies.astype(np.float32)
    encoded = _encoded(sessions["encoder"], given, features.stack)
    inputs = [ReferenceLevel(features).relate(log_energies(np.exp(one), features.floor)) for one in energies]
    stacked = torch.from_numpy(np.stack(inputs).astype(np.float32)).view(streams, steps, -1)
    with torch.no_grad():
        if trained.has_packed_file:
            talking = _encoded(_talking(folder / "encoder.onnx"), given, features.stack)
            found = [_check_searched(trained.transducer, logits, stacked) for logits in (encoded, talking)]
            return {"encoder": max(found)}
        return _check_networks(cast("StatelessTransducer", trained.model), sessions, encoded, stacked)


def _check_networks(
    model: StatelessTransducer, sessions: Mapping[str, Any], encoded: np.ndarray, stacked: Tensor
) -> dict[str, float]:
    """Compare all networks; the encoder made (N, steps * MAX_SYMBOLS, J) of stacked features (N, steps, C)."""
    import torch

    labels = np.random.default_rng(1).integers(
        -1, model.joint_output.out_features, (len(encoded), model.prediction.context)
    )
    predicted = sessions["decoder"].run(None, {"y": labels})[0]
    logits = sessions["joiner"].run(None, {"encoded": encoded[:, 0], "predicted": predicted})[0]
    theirs = model.joint_encoder(model.forward_encoder(model.normalise(stacked))[0])
    last = model.forward_prediction(torch.from_numpy(labels).clamp(min=BLANK))[0][:, -1]
    spoken = model.joint_prediction(last)
    joined = model.forward_joint(theirs[:, 0], spoken)
    return compare(
        {
            "encoder": (encoded, theirs.repeat_interleave(MAX_SYMBOLS, 1).numpy()),
            "decoder": (predicted, spoken.numpy()),
            "joiner": (logits, joined.numpy()),
        },
        TOLERANCE,
    )


def _talking(encoder: Path) -> Any:
    """Session of an encoder that holds the search, without a blank: noise makes a trained recogniser say little."""
    import onnx

    model = onnx.load(encoder)
    (bias,) = (each for each in model.graph.initializer if each.name == "joint_output.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[BLANK] = -np.inf
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    return import_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _check_searched(model: LSTMTransducer, logits: np.ndarray, stacked: Tensor) -> float:
    """Compare logits (N, steps * MAX_SYMBOLS, V) for stacked features (N, steps, C), up to the first blank of a step.

    Raises:
        ExportError: a difference beyond `TOLERANCE`, or a label after a blank.
    """
    import torch

    encoded = model.joint_encoder(model.forward_encoder(model.normalise(stacked))[0])
    labels, places = logits.argmax(-1), np.arange(logits.shape[1])
    emits = labels != BLANK
    ended = np.roll(~emits, 1, axis=1) & (places % MAX_SYMBOLS > 0)
    if (ended & emits).any():
        raise ExportError("the encoder emits a label after a blank of the same step")
    expected = logits.copy()
    for stream, live in enumerate(~ended):
        history = torch.from_numpy(np.append(BLANK, labels[stream, emits[stream]]))[None]
        spoken = model.joint_prediction(model.forward_prediction(history)[0])[0]
        known = emits[stream].cumsum() - emits[stream]  # labels before each place
        joined = model.forward_joint(encoded[stream, places // MAX_SYMBOLS], spoken[known]).numpy()
        expected[stream, live] = joined[live]
    without_blank = np.isinf(logits[..., BLANK]).any()
    kept = slice(BLANK + 1 if without_blank else 0, None)
    return compare({"encoder": (logits[..., kept], expected[..., kept])}, TOLERANCE)["encoder"]


def _encoded(session: Any, energies: np.ndarray, frames: int) -> np.ndarray:
    """Outputs of the encoder (N, ..., J) for log mel energies (N, T, mels), `frames` at a time."""
    shapes = {i.name: i.shape for i in session.get_inputs()[1:]}
    state = [np.zeros((parts, len(energies), width), np.float32) for parts, _, width in shapes.values()]
    outputs = []
    for start in range(0, energies.shape[1], frames):
        inputs = {"x": energies[:, start : start + frames], **dict(zip(shapes, state, strict=True))}
        encoded, *state = session.run(None, inputs)
        outputs.append(encoded)
    return np.concatenate(outputs, axis=1)


def _check_recogniser(trained: TrainedModel) -> None:
    if trained.has_packed_file:
        shape = trained.transducer.shape
        if shape.encoder_width < max(shape.prediction_width, shape.joint_width):
            raise ExportError(
                "for sherpa-onnx the encoder must be at least as wide as the prediction network and the joint: its "
                f"state has a place for theirs; this recogniser has {shape.encoder_width}, {shape.prediction_width} "
                f"and {shape.joint_width}"
            )
    elif not isinstance(trained.model, StatelessTransducer):
        name = trained.model.spec.name if trained.model.spec else type(trained.model).__name__
        raise ExportError(f"export to sherpa-onnx takes 'lstm_transducer' and 'stateless_transducer', not '{name}'")
    found = (trained.features.window_ms, trained.features.hop_ms)
    if found != FRAME_MS:
        raise ExportError(
            "sherpa-onnx computes frames of {:g} ms every {:g} ms; this recogniser was trained on frames of {:g} ms "
            "every {:g} ms".format(*FRAME_MS, *found)
        )


def _tokens(tokenizer: Tokenizer) -> str:
    """``tokens.txt``: a unit and its id a line, the space at the beginning of a unit as U+2581.

    Raises:
        ExportError: a unit that sherpa-onnx would spell otherwise.
    """
    units = [tokenizer.decode_more([i], "before") for i in range(1, tokenizer.size)]
    symbols = [f"{WORD_START}{unit[1:]}" if unit.startswith(" ") else unit for unit in units]
    for unit, symbol in zip(units, symbols, strict=True):
        if not symbol or set(symbol) & set(string.whitespace) or unit.startswith(WORD_START):
            raise ExportError(f"sherpa-onnx cannot spell the unit {unit!r}; train on texts without it")
    # It takes such units for bytes: none of their UTF-8 bytes is above 0xC6, and one is.
    if max(max(symbol.replace(WORD_START, "").encode(), default=0) for symbol in symbols) == 0xC6:
        raise ExportError(
            "sherpa-onnx would take the units for bytes: all letters lie below U+01C0, and some above U+017F"
        )
    return "".join(f"{symbol} {i}\n" for i, symbol in enumerate(["<blk>", *symbols]))
