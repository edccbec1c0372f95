"""Greedy (batched and streaming) and beam search for the transducer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS

if TYPE_CHECKING:
    from cspbench.asr.transducer import State, TransducerBase


LOOK_AHEAD = 8
"""Frames that the joint is evaluated for at once, most of which are blank."""


class GreedyDecoder:
    """Frame-synchronous greedy search over N independent utterances.

    Feeding frames one at a time or all at once gives the same labels: batch and streaming decoding share this class.
    """

    def __init__(self, model: TransducerBase, utterances: int = 1, max_symbols: int = MAX_SYMBOLS) -> None:
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

    def consume(self, encoded: Tensor) -> None:
        """Consume frames (T, J) of a single utterance, as `step` does one after the other.

        The joint looks at several frames at once: until the next label its prediction does not change.
        """
        frame = symbols = 0
        while frame < len(encoded):
            ahead = encoded[frame : frame + LOOK_AHEAD]
            best = self.model.forward_joint(ahead, self._predicted).argmax(-1).tolist()
            blanks = next((place for place, label in enumerate(best) if label != BLANK), len(best))
            if blanks:
                frame, symbols = frame + blanks, 0
            if blanks == len(best):
                continue
            self.labels[0].append(best[blanks])
            label = torch.tensor([[best[blanks]]], device=encoded.device)
            predicted, self._state = self.model.forward_prediction(label, self._state)
            self._predicted = self.model.joint_prediction(predicted[:, 0])
            symbols += 1
            if symbols == self.max_symbols:
                frame, symbols = frame + 1, 0

    def _advance(self, rows: Tensor, labels: Tensor) -> None:
        chosen: State = [tuple(part[:, rows] for part in layer) for layer in self._state]
        predicted, after = self.model.forward_prediction(labels[:, None], chosen)
        self._predicted[rows] = self.model.joint_prediction(predicted[:, 0])
        for layer, new in zip(self._state, after, strict=True):
            for part, value in zip(layer, new, strict=True):
                part[:, rows] = value

    def state(self) -> list[Tensor]:
        """Return what is carried from one frame to the next."""
        return [self._predicted, *(part for layer in self._state for part in layer)]


@torch.no_grad()
def greedy(model: TransducerBase, features: Tensor, frames: Tensor, max_symbols: int = MAX_SYMBOLS) -> list[list[int]]:
    """Labels of each utterance for normalised features (N, T, C) with `frames` (N,) valid steps."""
    return greedy_projected(model, model.joint_encoder(model.encode(features, frames)), frames, max_symbols)


@torch.no_grad()
def greedy_projected(
    model: TransducerBase, encoded: Tensor, frames: Tensor, max_symbols: int = MAX_SYMBOLS
) -> list[list[int]]:
    """Labels of each utterance for encodings projected to the joint's width, (N, T, J), with `frames` (N,) valid."""
    decoder = GreedyDecoder(model, len(frames), max_symbols)
    for t in range(encoded.shape[1]):
        decoder.step(encoded[:, t], t < frames)
    return decoder.labels


class StreamingGreedy:
    """Greedy search on features that arrive in chunks; keeps encoder and prediction state between them.

    The encoder runs on whole chunks of `SpeechModel.chunk` steps; what is left is decoded by `finish`.
    """

    @torch.no_grad()
    def __init__(self, model: TransducerBase, max_symbols: int = MAX_SYMBOLS) -> None:
        self.model = model
        self._decoder = GreedyDecoder(model, 1, max_symbols)
        self._state: Any = None
        self._rest: Tensor | None = None

    @property
    def labels(self) -> list[int]:
        """All labels so far."""
        return self._decoder.labels[0]

    def accept(self, features: Tensor) -> list[int]:
        """Consume normalised features (T, C), T >= 1; return the labels they brought."""
        if self._rest is not None:
            features = torch.cat([self._rest, features])
        assert self.model.chunk is not None
        whole = len(features) // self.model.chunk * self.model.chunk
        self._rest = features[whole:] if whole < len(features) else None
        return self._decode(features[:whole]) if whole else []

    def finish(self) -> list[int]:
        """Decode what has not filled a chunk; return its labels."""
        rest, self._rest = self._rest, None
        return [] if rest is None else self._decode(rest)

    def state(self) -> list[Tensor]:
        """Return the tensors that are carried from one chunk to the next."""
        layers = [] if self._state is None else self._state
        rest = [] if self._rest is None else [self._rest]
        return [*self._decoder.state(), *(part for layer in layers for part in layer), *rest]

    @torch.no_grad()
    def _decode(self, features: Tensor) -> list[int]:
        known = len(self.labels)
        encoded, self._state = self.model.forward_encoder(features[None], self._state)
        self._decoder.consume(self.model.joint_encoder(encoded[0]))
        return self.labels[known:]


@dataclass(frozen=True)
class Hypothesis:
    """A label sequence with its log-probability summed over the alignments the beam has seen."""

    labels: tuple[int, ...]
    score: float


@dataclass
class _Open:
    score: float
    predicted: Tensor  # (1, J)
    state: State


@torch.no_grad()
def beam_search(
    model: TransducerBase, features: Tensor, beam: int = 8, max_symbols: int = MAX_SYMBOLS
) -> list[Hypothesis]:
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


def _search_frame(model: TransducerBase, frame: Tensor, beams: Beams, beam: int, max_symbols: int) -> Beams:
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


def _extend(model: TransducerBase, beams: Beams, keys: Sequence[tuple[int, ...]], scores: Tensor, beam: int) -> Beams:
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
