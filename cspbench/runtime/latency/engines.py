"""The engines there are, and how each is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import Tokenizer
from cspbench.errors import CspbenchError, did_you_mean
from cspbench.runtime import extension
from cspbench.runtime.latency.cuda import CudaEngine, Layout
from cspbench.runtime.latency.engine import Engine, Pace
from cspbench.runtime.latency.torch_engine import TorchEngine
from cspbench.runtime.packing import PackedModel, pack_model
from cspbench.runtime.streaming import Weights
from cspbench.spec import FeatureSpec

NATIVE = ("dense", "packed", "int8")
TORCH: dict[str, Weights] = {"torch": "dense", "torch-csr": "csr"}
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
"""What can be measured, in words; slow ones first, so that ratios read as speed-ups."""


@dataclass(frozen=True)
class Source:
    """What engines are made of.

    Attributes:
        model: in torch.
        tokenizer: its units.
        features: its front end.
        sample_rate: Hz.
        packed: the packed file it came from; None to pack it here.
    """

    model: Transducer
    tokenizer: Tokenizer
    features: FeatureSpec
    sample_rate: int
    packed: PackedModel | None = None

    @property
    def pace(self) -> Pace:
        """How samples make its steps."""
        return Pace.of(self.features, self.sample_rate)

    def pack(self, format: str = "auto", values: str = "fp32") -> PackedModel:
        """Pack it as `pack_model` does."""
        return pack_model(self.model, self.tokenizer, self.features, self.sample_rate, format=format, values=values)


def default_engines() -> tuple[str, ...]:
    """Names of the engines that are measured when nobody says: native ones beside torch, or torch alone."""
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


def packed_for(name: str, source: Source) -> PackedModel:
    """The packed model that a native engine runs."""
    if name == "dense":
        return source.pack(format="dense")
    if name == "int8":
        return source.pack(values="int8")
    return source.packed or source.pack()


def make_engine(name: str, source: Source, threads: int = 1) -> Engine:
    """Make an engine of `ENGINES`, ready to stream; torch's threads are the process's own."""
    parts = (source.model, source.tokenizer, source.features, source.sample_rate)
    if name in CUDA:
        return CudaEngine(name, *parts, CUDA[name])
    if name in TORCH:
        return TorchEngine(name, *parts, TORCH[name])
    from cspbench.runtime.latency.native_engine import NativeEngine

    return NativeEngine(name, packed_for(name, source), threads)
