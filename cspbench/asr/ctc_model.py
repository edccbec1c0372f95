"""The base of recognisers that are trained by CTC alone: loss, greedy decoding, streaming."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cspbench.asr.ctc import ctc_losses
from cspbench.asr.speech_model import SpeechModel
from cspbench.asr.tokenizer import BLANK
from cspbench.corpora.batches import Batch


class CtcOutput(NamedTuple):
    """Logits (N, T, V) and the valid frames (N,) among them, which are fewer than the features' after subsampling."""

    logits: Tensor
    frames: Tensor


class CtcBase(SpeechModel):
    """Base of CTC recognisers; a subclass makes the network and defines `outputs`."""

    @abstractmethod
    def outputs(self, batch: Batch) -> CtcOutput: ...

    def loss(self, outputs: CtcOutput, batch: Batch) -> Tensor:
        return ctc_losses(outputs.logits, batch.targets, outputs.frames, batch.labels, BLANK)

    def decode(self, outputs: CtcOutput, batch: Batch) -> list[list[int]]:
        """The best label of each frame, repetitions and blanks left out."""
        best = outputs.logits.argmax(-1)  # (N, T)
        return [collapse(row[:length].tolist(), BLANK) for row, length in zip(best, outputs.frames, strict=True)]


def collapse(best: list[int], before: int) -> list[int]:
    """Leave out blanks, and labels that repeat that of the frame before.

    Args:
        best: label of each frame.
        before: that of the frame before these.
    """
    return [label for last, label in zip([before, *best], best, strict=False) if label not in (BLANK, last)]


class CtcStream:
    """Greedy CTC decoding as features arrive.

    Args:
        step: features (1, T, C) and the state before them, None at first -> logits (1, T, V) and the state after; a
            state is a list of the tensors of each layer.
    """

    def __init__(self, step: Callable[[Tensor, Any], tuple[Tensor, list[tuple[Tensor, ...]]]]) -> None:
        self._step = step
        self._state: list[tuple[Tensor, ...]] | None = None
        self._last = BLANK

    @torch.no_grad()
    def accept(self, features: Tensor) -> list[int]:
        """Decode normalised features (T, C), T >= 1; return the labels they brought."""
        logits, self._state = self._step(features[None], self._state)
        best = logits[0].argmax(-1).tolist()
        labels = collapse(best, self._last)
        self._last = best[-1]
        return labels

    def finish(self) -> list[int]:
        """End the utterance, which leaves no labels."""
        return []

    def state(self) -> list[Tensor]:
        """Return the tensors that are carried from one chunk to the next."""
        return [part for layer in self._state or () for part in layer]
