"""What all exports share: facts about the recogniser, and a check against torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    from cspbench.asr.trained import TrainedModel


TOLERANCE = 1e-5
"""Largest difference from torch, relative to the largest output: two orders of summation in fp32 differ by less."""

STATE = ("hidden", "cell")
"""Inputs with the state of an LSTM; the outputs end in ``_out``."""


class ExportError(CspbenchError):
    """A model that cannot be exported, or exported files that cannot be used."""


def facts_json(trained: TrainedModel) -> str:
    """Facts about a recogniser that its files hold, as JSON: front end, units, origin."""
    known = {
        "features": trained.features.model_dump(mode="json"),
        "sample_rate": trained.sample_rate,
        "tokenizer": trained.tokenizer.state(),
        "blank": BLANK,
        "max_symbols": MAX_SYMBOLS,
        "synthetic": bool(trained.note.get("synthetic_speech", False)),
        "provenance": dict(trained.note),
    }
    return json.dumps(known, sort_keys=True)


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off: from 1.29 on it is on unless that is set before the import.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def open_session(path: Path, threads: int = 1) -> Any:
    """Open an ONNX file on the CPU.

    Args:
        path: the file.
        threads: of onnxruntime.

    Raises:
        ExportError: onnxruntime is not installed, or there is no such file.
    """
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise ExportError(f"running ONNX needs onnxruntime ({error}); pip install 'cspbench[export]'") from error
    if not path.is_file():
        raise ExportError(f"there is no {path}; `cspbench export` writes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compare(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], tolerance: float = TOLERANCE, runtime: str = "onnxruntime"
) -> dict[str, float]:
    """Largest difference of each network's outputs from those of torch, relative to the largest output.

    Args:
        pairs: outputs of the runtime and of torch, of equal shape, by the name of the network.
        tolerance: what is allowed.
        runtime: its name.

    Raises:
        ExportError: a larger difference.
    """
    found = {
        part: float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))
        for part, (ours, theirs) in pairs.items()
    }
    if worst := [part for part, value in found.items() if not value <= tolerance]:
        raise ExportError(f"{runtime} computes otherwise than torch: {worst[0]} differs by {found[worst[0]]:.3g}")
    return found
