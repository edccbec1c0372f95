"""Export of transducers with a stateless prediction network as folders that the package sherpa-onnx loads."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, cast

import numpy as np

from cspbench.asr.recognisers.stateless import StatelessTransducer
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS, WORD_START, Tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.features import log_energies
from cspbench.corpora.frames import ReferenceLevel
from cspbench.runtime.export.files import ExportError, compare, facts_json, open_session
from cspbench.runtime.packing.pack import float_state
from cspbench.store import write_atomic

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
    """Write ``encoder.onnx``, ``decoder.onnx``, ``joiner.onnx`` and ``tokens.txt``; see `sherpa_graphs`.

    Args:
        trained: a ``stateless_transducer``.
        folder: made if it is not there.
        sparse: store matrices with many zeros as sparse initialisers.

    Returns:
        The files by name: encoder, decoder, joiner, tokens.

    Raises:
        ExportError: a recogniser, front end or unit that sherpa-onnx cannot have, or onnx is not installed.
    """
    try:
        from cspbench.runtime.export import onnx_graphs, sherpa_graphs
    except ImportError as error:
        raise ExportError(f"exporting needs onnx ({error}); pip install 'cspbench[export]'") from error
    _check_recogniser(trained)
    tokens = _tokens(trained.tokenizer)
    metadata, state = {"cspbench": facts_json(trained)}, float_state(trained.model)
    graphs = {
        "encoder": sherpa_graphs.encoder_graph(trained.features, state, metadata, sparse),
        "decoder": sherpa_graphs.decoder_graph(state, metadata, sparse),
        "joiner": onnx_graphs.joint_graph(state, metadata, sparse),
    }
    folder.mkdir(exist_ok=True)
    paths = {part: folder / f"{part}.onnx" for part in NETWORKS} | {"tokens": folder / TOKENS}
    for part, graph in graphs.items():
        write_atomic(paths[part], graph.SerializeToString(deterministic=True))
    write_atomic(paths["tokens"], tokens.encode())
    return paths


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
    return "\n".join([*code, "", *notes])


def check_sherpa(trained: TrainedModel, folder: Path) -> dict[str, float]:
    """Largest difference between onnxruntime and torch for each network, relative to the largest output.

    The encoder gets log mel energies step by step, from several streams at once, as sherpa-onnx gives them.

    Raises:
        ExportError: a difference beyond `TOLERANCE`, or files that are not there.
    """
    import torch

    model, features = cast("StatelessTransducer", trained.model), trained.features
    sessions = {part: open_session(folder / f"{part}.onnx") for part in NETWORKS}
    rng = np.random.default_rng(0)
    streams, steps = CHECKED
    energies = rng.uniform(0, 20, (streams, steps * features.stack, features.mels)).astype(np.float32)
    labels = rng.integers(-1, trained.tokenizer.size, (streams, model.prediction.context))

    encoded = _encoded(sessions["encoder"], energies, features.stack)
    predicted = sessions["decoder"].run(None, {"y": labels})[0]
    logits = sessions["joiner"].run(None, {"encoded": encoded[:, 0], "predicted": predicted})[0]
    inputs = [ReferenceLevel(features).relate(log_energies(np.exp(one), features.floor)) for one in energies]
    with torch.no_grad():
        stacked = torch.from_numpy(np.stack(inputs)).view(streams, steps, -1)
        theirs = model.joint_encoder(model.forward_encoder(model.normalise(stacked))[0])
        last = model.forward_prediction(torch.from_numpy(labels).clamp(min=BLANK))[0][:, -1]
        spoken = model.joint_prediction(last)
        joined = model.forward_joint(theirs[:, 0], spoken)
    repeated = theirs.repeat_interleave(MAX_SYMBOLS, 1)
    return compare(
        {
            "encoder": (encoded, repeated.numpy()),
            "decoder": (predicted, spoken.numpy()),
            "joiner": (logits, joined.numpy()),
        },
        TOLERANCE,
    )


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
        raise ExportError(
            "sherpa-onnx has a state for the prediction network in its NeMo model types alone, and those compute other "
            "features (librosa's mels, Hann windows) than the ones that this recogniser was trained on; train a "
            "recogniser with model: {name: stateless_transducer}"
        )
    if not isinstance(trained.model, StatelessTransducer):
        name = trained.model.spec.name if trained.model.spec else type(trained.model).__name__
        raise ExportError(f"export to sherpa-onnx takes 'stateless_transducer', not '{name}'")
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
