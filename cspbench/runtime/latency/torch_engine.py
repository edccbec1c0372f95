"""The torch recogniser as an engine: dense or sparse weights, on the CPU or on CUDA.

On CUDA a step is timed by device events. It ends when the host knows its labels, so that launches, and waiting for the
label, are part of it: at batch 1 they are most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cspbench.asr.trained import TrainedModel
from cspbench.corpora.frames import flush
from cspbench.errors import CspbenchError
from cspbench.runtime.latency.engine import Result, Stopwatch, Traffic, wall_clock
from cspbench.runtime.torch_affine import Layout
from cspbench.runtime.torch_recogniser import TorchRecogniser

WORDS = {"dense": "dense fp32", "csr": "CSR fp32, 32-bit indices", "2:4": "2:4 fp16"}


def device_events(call: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Time a call by two events on its CUDA stream, one before and one after all it does; a `Stopwatch`."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    result = call(*arguments)
    after.record()
    after.synchronize()
    return result, before.elapsed_time(after) / 1000


class TorchEngine:
    """`TorchRecogniser`, measured.

    Args:
        name: under which it is reported.
        trained: the recogniser; its weights are copied.
        layout: of its matrices. ``2:4`` shows what the hardware gains; the labels of a recogniser that was not pruned
            that way mean little.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        CspbenchError: 2:4 without CUDA, or for a matrix whose shape the device does not take.
    """

    file_bytes: int | None = None

    def __init__(self, name: str, trained: TrainedModel, layout: Layout = "dense", device: str = "cpu") -> None:
        on_cuda = torch.device(device).type == "cuda"
        if layout == "2:4" and not on_cuda:
            raise CspbenchError("2:4 products need a CUDA device")
        self.name = name
        place = f" on {torch.cuda.get_device_name(device)}" if on_cuda else ""
        self.description = f"torch eager, {WORDS[layout]}{place}; torch {torch.__version__}"
        self.stopwatch: Stopwatch = device_events if on_cuda else wall_clock
        self._recogniser = TorchRecogniser(trained, layout).to(device)
        self._flush = flush(trained.features, trained.sample_rate)
        parts = self._recogniser.weight_bytes()
        self.weight_bytes = sum(parts.values())
        self.traffic = Traffic.of(parts, trained.tokenizer.size, self._recogniser.max_symbols)
        self.state_bytes = len(self._recogniser.state())

    def reset(self) -> None:
        self._recogniser.reset()

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        return self._recogniser.accept(samples)

    def finish(self) -> list[int]:
        labels = self._recogniser.accept(self._flush)
        self._recogniser.finish()
        return labels
