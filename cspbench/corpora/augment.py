"""Training-time changes of the edges of utterances, made on mel energies.

Recordings begin with digital silence, or end with the last sound. A recogniser decodes them if training had them.
"""

from __future__ import annotations

import numpy as np

from cspbench.spec import AugmentSpec

SPEECH_LEVEL = 0.3
"""Mean log energy above which a frame counts as speech, as a fraction of the way from background to loudest."""

BACKGROUND = 0.2
"""Fraction of the frames, the quietest, that stand for the background of a recording."""


def augment(recording: np.ndarray, flush: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Change the beginning and the end of an utterance, independently of each other.

    A changed end has lost a random part of the background beyond the speech, and got silence in its place: digital, or
    background of its own recording.

    Args:
        recording: mel energies (F, mels).
        flush: mel energies of the silence that follows every utterance, (K, mels).
        spec: see `AugmentSpec`; with `edges` of 0 the utterance stays as it is.
        rng: decides.

    Returns:
        Mel energies of the whole, (F', mels), with K frames of flush at the end.
    """
    first, last = 0, len(recording)
    before, after = recording[:0], flush
    changed = rng.random(2) < spec.edges
    if changed.any():
        start, end = speech_bounds(recording)
        if changed[0]:
            first = int(rng.integers(0, start + 1))
            before = _silence(recording, spec.silence_frames, rng)
        if changed[1]:
            last = int(rng.integers(end, len(recording) + 1))
            after = np.concatenate([_silence(recording, spec.silence_frames, rng), np.zeros_like(flush)])
    return np.concatenate([before, recording[first:last], after])


def speech_bounds(recording: np.ndarray) -> tuple[int, int]:
    """First frame of speech and the frame after the last one, judged by their level; all frames where none stands out.

    Args:
        recording: mel energies (F, mels), F >= 1.
    """
    level = _levels(recording)
    low, high = np.quantile(level, [0.1, 0.95])
    loud = np.flatnonzero(level > low + SPEECH_LEVEL * (high - low))
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(recording))


def _levels(recording: np.ndarray) -> np.ndarray:
    return np.log(recording + 1.0).mean(axis=1)


def _silence(recording: np.ndarray, longest: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `longest` frames of digital silence or of the recording's own background, one as likely as the other."""
    frames = int(rng.integers(0, longest + 1))
    if rng.random() < 0.5:
        return np.zeros((frames, recording.shape[1]), recording.dtype)
    quiet = np.argsort(_levels(recording), kind="stable")[: max(1, round(BACKGROUND * len(recording)))]
    return recording[rng.choice(quiet, frames)]
