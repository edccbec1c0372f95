"""Any recogniser of the registry as an engine: its own streaming step in torch, on dense or on packed layers.

A recogniser without a streaming step decodes an utterance when it has ended.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspbench.asr.speech_model import LabelStream, SpeechModel
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.batches import Batch
from cspbench.corpora.frames import flush
from cspbench.runtime.conformer import NativeConformerEncoder
from cspbench.runtime.latency.engine import wall_clock
from cspbench.runtime.online_features import OnlineFeatures
from cspbench.runtime.pack_layers import packed, packed_layers
from cspbench.runtime.torch_affine import tensor_bytes

WHOLE_UTTERANCE_ROWS = 64
"""Rows of input for which layers are packed where whole utterances are decoded at once: about two seconds of speech."""


class ModelEngine:
    """A recogniser in torch, measured.

    Args:
        name: under which it is reported.
        trained: the recogniser; it is copied.
        values: replace the layers that are faster packed, with this type of values, see
            `cspbench.runtime.pack_layers.packed`; None leaves all as they are.
        threads: of packed layers; torch's are the process's own.

    Raises:
        NativeError: packed layers without the native module.
    """

    stopwatch = staticmethod(wall_clock)
    traffic = None
    file_bytes: int | None = None

    def __init__(self, name: str, trained: TrainedModel, values: str | None = None, threads: int = 1) -> None:
        self.name = name
        model = copy.deepcopy(trained.model).cpu().eval()
        if values is not None:
            rows = model.chunk or WHOLE_UTTERANCE_ROWS
            model = packed(model, values=values, threads=threads, batch=rows)  # type: ignore[assignment]
        self._model = model
        self.description = f"torch {torch.__version__} eager, no packed file: {_layers(model, values is not None)}"
        self.weight_bytes = weight_bytes(model)
        self._flush = flush(trained.features, trained.sample_rate)
        self._front_end = OnlineFeatures(trained.features, trained.sample_rate)
        self._held = 0
        self.reset()

    @property
    def state_bytes(self) -> int:
        """Bytes that the stream carries; for whole utterances the most that any was."""
        return max(self._held, sum(tensor_bytes(part) for part in self._stream.state()))

    @torch.inference_mode()
    def reset(self) -> None:
        self._front_end.reset()
        self._stream: LabelStream = Collected(self._model) if self._model.chunk is None else self._model.stream()

    @torch.inference_mode()
    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        rows = self._front_end.accept(samples)
        return self._stream.accept(self._model.normalise(torch.from_numpy(rows))) if len(rows) else []

    @torch.inference_mode()
    def finish(self) -> list[int]:
        labels = self.accept(self._flush)
        self._held = self.state_bytes
        return labels + self._stream.finish()


class Collected:
    """An utterance that is decoded when it has ended, behind the interface of a stream."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._features: list[Tensor] = []

    def accept(self, features: Tensor) -> list[int]:
        """Keep features (T, C)."""
        self._features.append(features)
        return []

    def finish(self) -> list[int]:
        """Decode all features."""
        features = torch.cat(self._features)[None]
        nothing = torch.zeros(1, 0, dtype=torch.long)
        batch = Batch(features, torch.tensor([features.shape[1]]), nothing, torch.zeros(1, dtype=torch.long), [0])
        return self._model.decode(self._model.outputs(batch), batch)[0]

    def state(self) -> list[Tensor]:
        """Return the features so far."""
        return self._features


def weight_bytes(model: SpeechModel) -> int:
    """Bytes of all that recognition needs, packed layers as they are packed."""
    plain = (t for name, t in model.recogniser_state().items() if ".packed." not in name)
    return sum(map(tensor_bytes, plain)) + sum(row["bytes"] for row in _packed(model))


def _layers(model: SpeechModel, pack: bool) -> str:
    """Formats of the layers, in words."""
    counts = Counter(f"{row['format']} {row['values']}" for row in _packed(model))
    native = ", chunks encoded natively" if any(isinstance(m, NativeConformerEncoder) for m in model.modules()) else ""
    if counts:
        packed = ", ".join(f"{count} x {label}" for label, count in counts.most_common())
        return f"{packed}, the rest dense fp32{native}"
    return f"dense fp32, no layer is faster packed{native}" if pack else "dense fp32"


def _packed(model: SpeechModel) -> list[dict[str, Any]]:
    return [row for row in packed_layers(model) if not row["matrix"].startswith(model.AUXILIARY)]
