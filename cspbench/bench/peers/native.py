"""Ours: the packed LSTM of `cspbench.runtime`, its steps timed natively."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from cspbench.bench.peers.engine import AbsentError, Contestant, Evict, Precision, StepEngine
from cspbench.bench.peers.workload import Layer, Work
from cspbench.runtime import extension
from cspbench.runtime.packing import PackedMatrix, PackingError, pack_matrix
from cspbench.runtime.packing.choice import fastest

AUTO = "auto"
FORMATS = ("dense", "bitmap", "csr16", "csr8", "window")
"""Formats that take any matrix; each is measured beside what ``auto`` chooses."""


class Packed(StepEngine):
    """Every layer in one format, or in the one that the packer chooses for it."""

    def __init__(self, work: Work, values: Precision, format: str = AUTO) -> None:
        module = _module()
        matrices = [_pack(layer, format, values, index) for index, layer in enumerate(work.layers)]
        self.inputs = work.inputs
        self.bytes = sum(matrix.bytes for matrix in matrices)
        self.layers = [(m.native(), layer.bias) for m, layer in zip(matrices, work.layers, strict=True)]
        self.lstm = module.Lstm(self.layers)
        labels = [matrix.label for matrix in matrices]
        chosen = labels[0] if len(set(labels)) == 1 else ", ".join(labels)
        self.setting = f"{'chosen by the packer: ' if format == AUTO else ''}{chosen}; {module.current()}, native loop"

    def on(self, threads: int) -> Packed:
        """The same matrices on at most so many threads."""
        other = copy(self)
        other.lstm = _module().Lstm(self.layers, threads)
        return other

    def outputs(self) -> np.ndarray:
        self.lstm.reset()
        return self.lstm.run(self.inputs)

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        return self.lstm.time(steps, evict.bytes if evict else 0).tolist()


def gates_alone(work: Work) -> StepEngine | None:
    """The same layers with nothing but zeros: biases, gates and state are left. None without the native module.

    In the window format, where a product of nothing costs next to nothing: rows of csr8, empty as they are, would take
    twice as long as the gates.
    """
    empty = [replace(layer, weight=np.zeros_like(layer.weight)) for layer in work.layers]
    try:
        return Packed(replace(work, layers=tuple(empty)), "fp32", "window")
    except AbsentError:
        return None


def _module() -> Any:
    try:
        module = extension.require("this engine")
    except extension.NativeError as error:
        raise AbsentError(str(error)) from error
    if not hasattr(module, "Lstm"):
        raise AbsentError("the native module is older than this code: install cspbench again")
    return module


def _pack(layer: Layer, format: str, values: Precision, index: int) -> PackedMatrix:
    if format == AUTO:
        return fastest(layer.weight, values, f"layer {index}", lambda _: None)
    try:
        return pack_matrix(layer.weight, format, values, name=f"layer {index}")
    except PackingError as error:
        raise AbsentError(str(error)) from error


def _contestant(values: Precision, format: str) -> Contestant:
    name = f"ours_{values}" if format == AUTO else f"ours_{values}_{format}"
    return Contestant(name, values, lambda work: Packed(work, values, format), ours=True)


CONTESTANTS = [
    *(_contestant(values, AUTO) for values in ("fp32", "bf16", "int8", "int4")),
    *(_contestant(values, format) for values in ("fp32", "int8") for format in FORMATS),
]
