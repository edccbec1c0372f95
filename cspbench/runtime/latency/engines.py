"""The engines that can be measured, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cspbench.asr.trained import TrainedModel
from cspbench.errors import CspbenchError, did_you_mean
from cspbench.runtime import extension
from cspbench.runtime.latency.engine import Engine
from cspbench.runtime.latency.measure import Drive
from cspbench.runtime.latency.model_engine import ModelEngine
from cspbench.runtime.latency.stream import decode_whole, stream
from cspbench.runtime.latency.torch_engine import TorchEngine
from cspbench.runtime.packing import PackedModel, pack_model
from cspbench.runtime.torch_affine import Layout

NATIVE = ("dense", "packed", "int8")
TORCH: dict[str, Layout] = {"torch": "dense", "torch-csr": "csr"}
CUDA: dict[str, Layout] = {"cuda": "dense", "cuda-csr": "csr", "cuda-2:4": "2:4"}
ENGINES = {
    "torch": "torch, every weight",
    "torch-csr": "torch, CSR",
    "dense": "native, every weight, fp32",
    "packed": "native, without zeros, fp32 or as the packed file has it",
    "int8": "native, without zeros, int8",
    "cuda": "torch on CUDA, every weight",
    "cuda-csr": "torch on CUDA, CSR",
    "cuda-2:4": "torch on CUDA, two of every four weights, half precision",
}
"""Engines by name, in words; slow ones first, so that ratios read as speed-ups."""


WITHOUT_FILE = ("torch", "packed", "int8")
"""Engines of a recogniser without packed files: its own streaming step in torch, on dense or on packed layers."""


def default_engines(trained: TrainedModel) -> tuple[str, ...]:
    """Names of the engines measured by default: native ones beside torch, or torch alone."""
    if not trained.has_packed_file:
        return WITHOUT_FILE if extension.available() else WITHOUT_FILE[:1]
    return ("torch", *NATIVE) if extension.available() else tuple(TORCH)


def drive_of(trained: TrainedModel) -> Drive:
    """The way to hand a recogniser utterances: step by step, or whole where it has no streaming step."""
    return decode_whole if trained.model.chunk is None else stream


def check_engines(names: Sequence[str], trained: TrainedModel | None = None) -> None:
    """Check names, for a recogniser if one is given.

    Raises:
        CspbenchError: an engine that does not exist or cannot run here, or one named twice.
    """
    for name in names:
        if name not in ENGINES:
            raise CspbenchError(f"there is no engine '{name}' ({', '.join(ENGINES)}){did_you_mean(name, ENGINES)}")
        if name in NATIVE and not extension.available():
            raise CspbenchError(
                f"engine '{name}' needs the native module of cspbench, which was not built here; install a C++17 "
                f"compiler and reinstall cspbench, or measure {' and '.join(TORCH)}"
            )
        if name in CUDA and not torch.cuda.is_available():
            raise CspbenchError(f"engine '{name}' needs CUDA, and this torch sees no CUDA device")
        if trained is not None and not trained.has_packed_file and name not in WITHOUT_FILE:
            raise CspbenchError(
                f"engine '{name}' runs recognisers with packed files alone; this one has {', '.join(WITHOUT_FILE)}"
            )
    if len(set(names)) < len(names):
        raise CspbenchError(f"an engine is named twice in {', '.join(names)}")


def packed_for(name: str, trained: TrainedModel, packed: PackedModel | None = None) -> PackedModel:
    """The packed model that the native engine of a name runs; see `make_engine`."""
    if name == "dense":
        return pack_model(trained, format="dense")
    if name == "int8":
        return pack_model(trained, values="int8")
    return packed or pack_model(trained)


def make_engine(name: str, trained: TrainedModel, threads: int = 1, packed: PackedModel | None = None) -> Engine:
    """Make an engine of `ENGINES`, ready to stream.

    Args:
        name: of the engine; see `check_engines`.
        trained: the recogniser.
        threads: of native engines and packed layers; torch's are the process's own.
        packed: the packed file that the recogniser came from, which the engine ``packed`` runs as it is; None packs the
            recogniser now.
    """
    if not trained.has_packed_file:
        values = {"packed": "fp32", "int8": "int8"}.get(name)
        return ModelEngine(name, trained, values, threads)
    if name in CUDA:
        return TorchEngine(name, trained, CUDA[name], "cuda")
    if name in TORCH:
        return TorchEngine(name, trained, TORCH[name])
    from cspbench.runtime.latency.native_engine import NativeEngine

    return NativeEngine(name, packed_for(name, trained, packed), threads)
