"""Saved models (safetensors + JSON) and training checkpoints. Nothing here unpickles code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from cspbench.asr.recognisers import SpeechModel, build_model
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.asr.tokenizer import Tokenizer, load_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.errors import CspbenchError
from cspbench.spec import FeatureSpec, ModelSpec, as_of
from cspbench.store import ModelFolder, read_object, write_atomic, write_json

MODEL_VERSION = 2
"""Version 1 had neither a floor nor a flush in its front end; it can be read. The numbers are those of the specs."""


TRANSDUCER, OTHER = "cspbench-transducer", "cspbench-recogniser"
"""Kinds of ``model.json``: the default recogniser by its shape, any other by the spec it was built from."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, atomically."""
    write_atomic(path, save({k: v.detach().contiguous().cpu() for k, v in tensors.items()}))


def save_model(folder: Path, trained: TrainedModel) -> None:
    """Write ``model.safetensors`` and ``model.json``: all that recognition needs, and the auxiliary parts.

    Args:
        folder: made if needed.
        trained: the recogniser.
    """
    files, model = ModelFolder(folder), trained.model
    save_tensors(files.weights, model.state_dict())
    if isinstance(model, LSTMTransducer):
        kind, description = TRANSDUCER, model.config()
    else:
        assert model.spec is not None, "build_model sets it"
        kind, description = OTHER, model.spec.model_dump(mode="json")
    config = {
        "format": kind,
        "version": MODEL_VERSION,
        "model": description,
        "tokenizer": trained.tokenizer.state(),
        "features": trained.features.model_dump(mode="json"),
        "sample_rate": trained.sample_rate,
        "note": dict(trained.note),
    }
    write_json(files.model, config)


def load_model(folder: Path) -> TrainedModel:
    """Read a recogniser that `save_model` wrote; the model is in evaluation mode, on the CPU.

    Raises:
        CspbenchError: a folder without a model, or one of another version.
    """
    files = ModelFolder(folder)
    config = model_config(files)
    tokenizer = load_tokenizer(config["tokenizer"])
    model = _model(config, config["features"], tokenizer)
    model.load_state_dict(load_file(files.weights))
    return TrainedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        features=config["features"],
        sample_rate=config["sample_rate"],
        note=config.get("note", {}),
    )


def model_config(folder: ModelFolder) -> dict[str, Any]:
    """Return what ``model.json`` says of a saved recogniser; ``features`` is a `FeatureSpec`.

    Raises:
        CspbenchError: a folder without a model, or one of another version.
    """
    if not (folder.model.is_file() and folder.weights.is_file()):
        raise CspbenchError(f"no model in {folder.path}: it should hold {folder.model.name} and {folder.weights.name}")
    config = read_object(folder.model)
    if config.get("format") not in (TRANSDUCER, OTHER) or config.get("version") not in (1, MODEL_VERSION):
        raise CspbenchError(f"{folder.model} is not a cspbench recogniser of version 1 or {MODEL_VERSION}")
    return config | {"features": FeatureSpec.model_validate(as_of(FeatureSpec, config["features"], config["version"]))}


def _model(config: Mapping[str, Any], features: FeatureSpec, tokenizer: Tokenizer) -> SpeechModel:
    if config["format"] == TRANSDUCER:
        return LSTMTransducer.from_config(config["model"])
    return build_model(ModelSpec.model_validate(config["model"]), features, tokenizer.size)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, containers and numbers so that a killed run can go on; atomic."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint with torch's restricted loader, which refuses anything but tensors and plain data."""
    return torch.load(path, map_location=device, weights_only=True)
