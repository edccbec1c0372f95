"""Greedy (batched and streaming) and beam search for the transducer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cspbench.asr.model import LSTMState, Transducer
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS


class GreedyDecoder:
    """Frame-synchronous greedy search over N independent utterances.

    Feeding frames one at a time or all at once gives the same labels: batch and streaming decoding share this class.
    """

    def __init__(self, model: Transducer, utterances: int = 1, max_symbols: int = MAX_SYMBOLS) -> None:
        self.model = model
        self.max_symbols = max_symbols
        self.labels: list[list[int]] = [[] for _ in range(utterances)]
        start = torch.full((utterances, 1), BLANK, device=model.device)
        predicted, self._state = model.forward_prediction(start)
        self._predicted = model.joint_prediction(predicted[:, 0])  # (N, J)

    def step(self, encoded: Tensor, active: Tensor) -> None:
        """Consume one frame.

        Args:
            encoded: encodings projected to the joint's width, (N, J).
            active: bool (N,), False where an utterance has ended.
        """
        for _ in range(self.max_symbols):
            best = self.model.forward_joint(encoded, self._predicted).argmax(-1)  # (N,)
            active = active & (best != BLANK)
            rows = active.nonzero()[:, 0]
            if not len(rows):
                return
            for row, label in zip(rows.tolist(), best[rows].tolist(), strict=True):
                self.labels[row].append(label)
            self._advance(rows, best[rows])

    def _advance(self, rows: Tensor, labels: Tensor) -> None:
        chosen: LSTMState = [(h[:, rows], c[:, rows]) for h, c in self._state]
        predicted, after = self.model.forward_prediction(labels[:, None], chosen)
        self._predicted[rows] = self.model.joint_prediction(predicted[:, 0])
        for (h, c), (new_h, new_c) in zip(self._state, after, strict=True):
            h[:, rows], c[:, rows] = new_h, new_c


@torch.no_grad()
def greedy(model: Transducer, features: Tensor, frames: Tensor, max_symbols: int = MAX_SYMBOLS) -> list[list[int]]:
    """Labels of each utterance for normalised features (N, T, C) with `frames` (N,) valid steps."""
    return greedy_encoded(model, model.forward_encoder(features)[0], frames, max_symbols)


@torch.no_grad()
def greedy_encoded(
    model: Transducer, encoded: Tensor, frames: Tensor, max_symbols: int = MAX_SYMBOLS
) -> list[list[int]]:
    """Labels of each utterance for encodings (N, T, H) with `frames` (N,) valid steps."""
    projected = model.joint_encoder(encoded)
    decoder = GreedyDecoder(model, len(frames), max_symbols)
    for t in range(projected.shape[1]):
        decoder.step(projected[:, t], t < frames)
    return decoder.labels


class StreamingGreedy:
    """Greedy search on features that arrive in chunks; keeps encoder and prediction state between them."""

    def __init__(self, model: Transducer, max_symbols: int = MAX_SYMBOLS) -> None:
        self.model = model
        self._decoder = GreedyDecoder(model, 1, max_symbols)
        self._state: LSTMState | None = None

    @property
    def labels(self) -> list[int]:
        """All labels so far."""
        return self._decoder.labels[0]

    @torch.no_grad()
    def accept(self, features: Tensor) -> None:
        """Consume normalised features (T, C), T >= 1."""
        encoded, self._state = self.model.forward_encoder(features[None], self._state)
        active = torch.ones(1, dtype=torch.bool, device=features.device)
        for frame in self.model.joint_encoder(encoded[0]):
            self._decoder.step(frame[None], active)


@dataclass(frozen=True)
class Hypothesis:
    """A label sequence with its log-probability summed over the alignments the beam has seen."""

    labels: tuple[int, ...]
    score: float


@dataclass
class _Open:
    score: float
    predicted: Tensor  # (1, J)
    state: LSTMState


@torch.no_grad()
def beam_search(model: Transducer, features: Tensor, beam: int = 8, max_symbols: int = MAX_SYMBOLS) -> list[Hypothesis]:
    """Frame-synchronous beam search that merges alignments of equal label sequences.

    Within a frame the open hypotheses are extended by labels up to `max_symbols` times; every hypothesis leaves the
    frame by blank, and those that leave it with the same labels are added up (Graves 2012, section 2.5, bounded).

    Args:
        model: the recogniser.
        features: normalised features of one utterance, (T, C).
        beam: hypotheses kept after each frame and each extension; 1 or more.
        max_symbols: labels in one frame at most.

    Returns:
        At most `beam` hypotheses, the most probable first.
    """
    if beam < 1:
        raise ValueError(f"beam must be at least 1, got {beam}")
    encoded, _ = model.forward_encoder(features[None])
    start, state = model.forward_prediction(torch.full((1, 1), BLANK, device=features.device))
    beams: Beams = {(): _Open(0.0, model.joint_prediction(start[:, 0]), state)}
    for frame in model.joint_encoder(encoded[0]):
        beams = _search_frame(model, frame[None], beams, beam, max_symbols)
    ranked = sorted(beams.items(), key=lambda item: -item[1].score)
    return [Hypothesis(labels, entry.score) for labels, entry in ranked]


Beams = dict[tuple[int, ...], _Open]


def _search_frame(model: Transducer, frame: Tensor, beams: Beams, beam: int, max_symbols: int) -> Beams:
    left: Beams = {}
    for symbols in range(max_symbols + 1):
        keys = list(beams)
        logits = model.forward_joint(frame, torch.cat([beams[k].predicted for k in keys]))
        log_probs = logits.float().log_softmax(-1)  # (hypotheses, V)
        scores = torch.tensor([beams[k].score for k in keys], device=frame.device)
        for key, score in zip(keys, (scores + log_probs[:, BLANK]).tolist(), strict=True):
            _add(left, key, _Open(score, beams[key].predicted, beams[key].state))
        if symbols == max_symbols:
            break
        extended = scores[:, None] + log_probs
        extended[:, BLANK] = -torch.inf
        beams = _extend(model, beams, keys, extended, beam)
    ranked = sorted(left.items(), key=lambda item: -item[1].score)
    return dict(ranked[:beam])


def _extend(model: Transducer, beams: Beams, keys: Sequence[tuple[int, ...]], scores: Tensor, beam: int) -> Beams:
    top = scores.flatten().topk(min(beam, len(keys) * (scores.shape[1] - 1)))
    extended: Beams = {}
    for score, index in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        key, label = keys[index // scores.shape[1]], index % scores.shape[1]
        ids = torch.tensor([[label]], device=scores.device)
        predicted, state = model.forward_prediction(ids, beams[key].state)
        _add(extended, (*key, label), _Open(score, model.joint_prediction(predicted[:, 0]), state))
    return extended


def _add(beams: Beams, key: tuple[int, ...], entry: _Open) -> None:
    """Add a hypothesis, or its probability to the one that has the same labels (and so the same state)."""
    if key in beams:
        beams[key].score = float(torch.logaddexp(torch.tensor(beams[key].score), torch.tensor(entry.score)))
    else:
        beams[key] = entry
