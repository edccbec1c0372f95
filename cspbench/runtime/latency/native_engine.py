"""The native recogniser as an engine, through the public interface."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from cspbench.asr.tokenizer import MAX_SYMBOLS
from cspbench.runtime import extension
from cspbench.runtime.latency.engine import Traffic, wall_clock
from cspbench.runtime.packing import PackedModel
from cspbench.runtime.recogniser import Recogniser

FLOAT = 4  # bytes; biases, embedding and statistics are fp32 in every model


class NativeEngine:
    """A packed model in `Recogniser`, measured.

    Args:
        name: under which it is reported.
        packed: the model.
        threads: for each product.

    Raises:
        NativeError: there is no native module.
    """

    stopwatch = staticmethod(wall_clock)

    def __init__(self, name: str, packed: PackedModel, threads: int = 1) -> None:
        module = extension.require(f"the engine '{name}'")
        self.name = name
        self.description = f"native ({module.current()}), {_formats(packed)}"
        parts = _weight_bytes(packed)
        self.weight_bytes = sum(parts.values())
        self.file_bytes: int | None = packed.file_bytes
        self.traffic = Traffic.of(parts, packed.header.model.shape.units, MAX_SYMBOLS)
        self._stream = Recogniser(packed, threads)
        self.state_bytes = len(self._stream.snapshot())

    def reset(self) -> None:
        self._stream.reset()

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        known = len(self._stream.labels)
        self._stream.accept(samples)
        return self._stream.labels[known:]

    def finish(self) -> list[int]:
        known = len(self._stream.labels)
        self._stream.finish()
        return self._stream.labels[known:]


def _formats(packed: PackedModel) -> str:
    """Formats in use, e.g. ``5 x csr16 fp32, 1 x dense fp32``."""
    counts = Counter(f"{m.format} {m.values}" for m in packed.matrices.values())
    return ", ".join(f"{count} x {label}" for label, count in counts.most_common())


def _weight_bytes(packed: PackedModel) -> dict[str, int]:
    """Bytes of the weights by part, as `TorchRecogniser.weight_bytes`; a layer's two biases are one when it runs."""

    def layers(stack: str) -> int:
        return sum(m.bytes + FLOAT * m.rows for name, m in packed.matrices.items() if name.startswith(f"{stack}."))

    def affine(name: str) -> int:
        bias = packed.vectors.get(f"{name}.bias")
        return packed.matrices[name].bytes + (0 if bias is None else bias.nbytes)

    return {
        "normalisation": packed.vectors["feature_mean"].nbytes + packed.vectors["feature_scale"].nbytes,
        "embedding": packed.vectors["embedding.weight"].nbytes,
        **{name: layers(name) for name in ("encoder", "prediction")},
        **{name: affine(name) for name in ("joint_encoder", "joint_prediction", "joint_output")},
    }
