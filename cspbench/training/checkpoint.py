"""Saved models (safetensors + JSON) and training checkpoints. Nothing here unpickles code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import Tokenizer, load_tokenizer
from cspbench.errors import CspbenchError
from cspbench.spec import FeatureSpec
from cspbench.store import ModelFolder, read_json, write_atomic, write_json

MODEL_VERSION = 1


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, atomically."""
    write_atomic(path, save({k: v.detach().contiguous().cpu() for k, v in tensors.items()}))


def save_model(
    folder: Path,
    model: Transducer,
    tokenizer: Tokenizer,
    features: FeatureSpec,
    sample_rate: int,
    note: Mapping[str, Any] | None = None,
) -> None:
    """Write ``model.safetensors`` and ``model.json``: all that recognition needs, and the auxiliary head.

    Args:
        folder: made if needed.
        model: the recogniser.
        tokenizer: its units.
        features: its front end.
        sample_rate: of the audio it takes, Hz.
        note: further facts to keep beside it, e.g. that the training speech was synthetic.
    """
    files = ModelFolder(folder)
    save_tensors(files.weights, model.state_dict())
    config = {
        "format": "cspbench-transducer",
        "version": MODEL_VERSION,
        "model": model.config(),
        "tokenizer": tokenizer.state(),
        "features": features.model_dump(mode="json"),
        "sample_rate": sample_rate,
        "note": dict(note or {}),
    }
    write_json(files.model, config)


def load_model(folder: Path) -> tuple[Transducer, Tokenizer, FeatureSpec, int]:
    """Read what `save_model` wrote: model (in evaluation mode), tokenizer, front end, sample rate (Hz).

    Raises:
        CspbenchError: a folder without a model, or one of another version.
    """
    files = ModelFolder(folder)
    if not files.model.is_file():
        raise CspbenchError(f"no model in {folder}: it should hold {files.model.name} and {files.weights.name}")
    config = read_json(files.model)
    if config.get("format") != "cspbench-transducer" or config.get("version") != MODEL_VERSION:
        raise CspbenchError(f"{files.model} is not a version {MODEL_VERSION} cspbench transducer")
    model = Transducer.from_config(config["model"])
    model.load_state_dict(load_file(files.weights))
    return (
        model.eval(),
        load_tokenizer(config["tokenizer"]),
        FeatureSpec.model_validate(config["features"]),
        config["sample_rate"],
    )


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, containers and numbers so that a killed run can go on; atomic."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint with torch's restricted loader, which refuses anything but tensors and plain data."""
    return torch.load(path, map_location=device, weights_only=True)
