"""The engines that can be measured, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cspbench.asr.trained import TrainedModel
from cspbench.errors import CspbenchError, did_you_mean
from cspbench.runtime import extension
from cspbench.runtime.latency.engine import Engine
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


def default_engines() -> tuple[str, ...]:
    """Names of the engines measured by default: native ones beside torch, or torch alone."""
    return ("torch", *NATIVE) if extension.available() else tuple(TORCH)


def check_engines(names: Sequence[str]) -> None:
    """Check names.

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
        name: of the engine.
        trained: the recogniser.
        threads: of native engines; torch's are the process's own.
        packed: the packed file that the recogniser came from, which the engine ``packed`` runs as it is; None packs the
            recogniser now.
    """
    if name in CUDA:
        return TorchEngine(name, trained, CUDA[name], "cuda")
    if name in TORCH:
        return TorchEngine(name, trained, TORCH[name])
    from cspbench.runtime.latency.native_engine import NativeEngine

    return NativeEngine(name, packed_for(name, trained, packed), threads)
