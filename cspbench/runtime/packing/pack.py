"""From a trained recogniser to a packed one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from cspbench.errors import CspbenchError, did_you_mean
from cspbench.runtime.packing.choice import SEARCHES
from cspbench.runtime.packing.encode import pack_matrix, parse_format
from cspbench.runtime.packing.header import ModelHeader, PackedHeader, matrix_shapes
from cspbench.runtime.packing.matrix import FORMATS, PackedMatrix
from cspbench.runtime.packing.model import PackedModel, joined, matrix_header
from cspbench.runtime.packing.values import VALUE_TYPES, PackingError
from cspbench.store import ModelFolder, read_object

if TYPE_CHECKING:
    from cspbench.asr.speech_model import SpeechModel
    from cspbench.asr.trained import TrainedModel

MatrixOption = str | Mapping[str, str]
"""One word for all matrices, or one for each pattern (regular expression) that matches the whole name of a matrix."""


def pack_model(
    trained: TrainedModel,
    *,
    format: MatrixOption = "auto",
    values: MatrixOption = "fp32",
    progress: Callable[[str], None] = lambda _: None,
) -> PackedModel:
    """Pack a recogniser.

    Args:
        trained: the recogniser; the zeros among its weights are left out. Its note becomes the file's provenance.
        format: ``auto`` takes for each matrix the format that costs the least time on this machine (see `choice`),
            ``smallest`` the one with the fewest bytes; otherwise a format as `parse_format` takes it. Matrices that no
            pattern of a mapping matches are left to ``auto``.
        values: fp32, fp16, bf16, int8, or int4: where ``auto`` or ``smallest`` takes another format than a window it
            holds int8. Matrices that no pattern of a mapping matches stay fp32.
        progress: called with status lines.

    Raises:
        PackingError: weights that are not finite, a format that does not take them or is not there, a pattern that
            matches no matrix.
    """
    model = trained.transducer
    state = float_state(model)
    names = list(matrix_shapes(model.shape))
    formats = assign(format, names, "auto", "format")
    types = assign(values, names, "fp32", "values")
    matrices = {n: _pack(n, joined(state, n), formats[n], types[n], progress) for n in names}
    vectors = {n: v.astype(np.float32) for n, v in state.items() if not _in_matrix(n, names)}
    if odd := next((n for n, v in vectors.items() if not np.isfinite(v).all()), None):
        raise PackingError(f"'{odd}' is not finite; train again")
    header = PackedHeader(
        model=ModelHeader.model_validate(model.config()),
        matrices={name: matrix_header(m) for name, m in matrices.items()},
        vectors={name: list(v.shape) for name, v in vectors.items()},
        tokenizer=trained.tokenizer.state(),
        features=trained.features,
        sample_rate=trained.sample_rate,
        synthetic=bool(trained.note.get("synthetic_speech", False)),
        provenance=dict(trained.note),
    )
    return PackedModel(header, matrices, vectors)


def _in_matrix(name: str, matrices: Iterable[str]) -> bool:
    owner, _, kind = name.rpartition(".")
    return kind.startswith("weight") and owner in matrices


def _pack(name: str, weight: np.ndarray, format: str, values: str, progress: Callable[[str], None]) -> PackedMatrix:
    if format in SEARCHES:
        return SEARCHES[format](weight, values, name, progress)
    return pack_matrix(weight, format, values, name=name)


def assign(option: MatrixOption, names: Iterable[str], default: str, what: str) -> dict[str, str]:
    """Return the word for each name: the first pattern that matches all of it decides.

    Raises:
        PackingError: a word that is none, a pattern that cannot be read or matches nothing.
    """
    patterns = {".*": option} if isinstance(option, str) else dict(option)
    for word in patterns.values():
        _check_word(word, what)
    names = list(names)
    result: dict[str, str] = {}
    for pattern, word in patterns.items():
        try:
            matching = [n for n in names if re.fullmatch(pattern, n)]
        except re.error as error:
            raise PackingError(f"{what}: '{pattern}' is no regular expression: {error}") from error
        if not matching:
            raise PackingError(f"{what}: '{pattern}' matches no matrix; there are {', '.join(names)}")
        result |= {n: word for n in matching if n not in result}
    return dict.fromkeys(names, default) | result


def _check_word(word: str, what: str) -> None:
    known = VALUE_TYPES if what == "values" else (*SEARCHES, *FORMATS)
    if word.partition(":")[0] not in known:
        raise PackingError(f"{what}: '{word}' is none of {', '.join(known)}{did_you_mean(word, known)}")
    if what == "format" and word not in SEARCHES:
        parse_format(word)


def open_model(
    path: Path | str,
    *,
    format: MatrixOption = "auto",
    values: MatrixOption = "fp32",
    progress: Callable[[str], None] = lambda _: None,
) -> PackedModel:
    """Open a packed file, or pack the model of a folder (``model.json`` and ``model.safetensors``) now.

    Args:
        path: a file, or a trial's or dense recogniser's folder in the store.
        format: for a folder; see `pack_model`.
        values: for a folder.
        progress: called with status lines.

    Raises:
        CspbenchError: neither of these, or one that is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return PackedModel.load(path)
    return pack_model(open_folder(path), format=format, values=values, progress=progress)


def open_folder(folder: Path) -> TrainedModel:
    """Load the recogniser of a trial's or dense recogniser's folder; facts that the folder holds become its note.

    Raises:
        CspbenchError: there is no model, or it is damaged.
    """
    # Here, so that a packed file can be opened where torch never is.
    from cspbench.training.checkpoint import load_model

    try:
        trained = load_model(folder)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise CspbenchError(f"the model in {folder} cannot be read: {error}") from error
    return replace(trained, note=_provenance(folder, trained.note))


def _provenance(folder: Path, note: Mapping[str, Any]) -> dict[str, Any]:
    """Identity, method, sparsity and word error rates of the model in a folder, as far as they are known."""
    try:
        result = read_object(ModelFolder(folder).result)
    except (OSError, ValueError):
        result = {}
    known = {key: result[key] for key in ("trial_id", "dense_id", "method", "sparsity", "seed") if key in result}
    rates = {f"{split}_wer": result[split]["wer"] for split in ("dev", "test") if result.get(split)}
    return dict(note) | known | rates


def packed_bytes(trained: TrainedModel) -> int:
    """Bytes of the smallest packed file in fp32, without provenance: the same on every machine.

    Of a recogniser without packed files, bytes of its weights: each matrix in its smallest format, the rest as float32.
    """
    return _bytes(trained, "smallest")


def dense_bytes(trained: TrainedModel) -> int:
    """Bytes of the same file, or of the same weights, with every weight in it."""
    return _bytes(trained, "dense")


def float_state(model: SpeechModel) -> dict[str, np.ndarray]:
    """Float32 arrays of all that recognition needs, by the names of the model."""
    return {name: tensor.detach().cpu().float().numpy() for name, tensor in model.recogniser_state().items()}


def _bytes(trained: TrainedModel, format: str) -> int:
    if trained.has_packed_file:
        return pack_model(replace(trained, note={}), format=format).file_bytes
    from cspbench.asr.speech_model import prunable_weights

    state = float_state(trained.model)
    matrices = [name for name in prunable_weights(trained.model) if name in state]
    arrays = ((name, state.pop(name)) for name in matrices)
    packed = sum(_pack(name, a.reshape(len(a), -1), format, "fp32", lambda _: None).bytes for name, a in arrays)
    return packed + sum(array.nbytes for array in state.values())
