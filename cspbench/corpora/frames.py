"""Counting samples and frames of the front end, and the reference level that its features are relative to."""

from __future__ import annotations

import math

import numpy as np

from cspbench.spec import FeatureSpec


def whole_samples(milliseconds: float, sample_rate: int) -> int:
    """Samples of a window or hop: computed in single precision and cut off, as Kaldi does it."""
    return int(np.float32(sample_rate) * np.float32(0.001) * np.float32(milliseconds))


def frame_count(samples: int, spec: FeatureSpec, sample_rate: int) -> int:
    """Frames whose whole window lies within so many samples."""
    window, hop = (whole_samples(ms, sample_rate) for ms in (spec.window_ms, spec.hop_ms))
    return max(0, 1 + (samples - window) // hop)


def flush(spec: FeatureSpec, sample_rate: int) -> np.ndarray:
    """The silence that follows the last sample of every utterance: zeros, (N,) float32."""
    return np.zeros(round(sample_rate * spec.flush_ms / 1000), np.float32)


class ReferenceLevel:
    """Makes log-mel features independent of how loud an utterance is, frame by frame, so that it can be streamed.

    The level of a frame is the mean of its log energies. The reference follows the loudest frames at once and falls
    slowly, and it lies above the quietest frame so far by what speech usually does. All of it shifts with the level of
    the recording, so that features relative to it do not change when the speaker steps back.

    A recording that begins in mid-speech has no quiet frame at first, and its reference lies too high. It stays so for
    seconds, as it falls slowly, unless it follows the background: then the first pause sets it right.

    Args:
        spec: the front end; without `level_fall` features stay absolute.

    Attributes:
        reference: the level that falls slowly, nats.
        background: level of the quietest frame so far, nats.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._fall, self._above = spec.level_fall, spec.level_above
        self._follow_background = spec.level_follows_background
        self.reference = -math.inf
        self.background = math.inf

    def relate(self, frames: np.ndarray) -> np.ndarray:
        """Subtract the reference level from the next frames, (F, mels), in chunks of any length."""
        if self._fall is None or not len(frames):
            return frames
        levels = frames.mean(axis=1, dtype=np.float64)
        quietest = np.minimum.accumulate(np.append(self.background, levels))[1:]
        least = quietest + self._above
        followed = levels if self._follow_background else np.maximum(levels, least)
        # The recursion reference = max(followed, reference - fall), written as a running maximum.
        fallen = self._fall * np.arange(1, len(frames) + 1)
        references = np.maximum.accumulate(np.append(self.reference, followed + fallen))[1:] - fallen
        self.reference, self.background = float(references[-1]), float(quietest[-1])
        return (frames - np.maximum(references, least)[:, None]).astype(np.float32)
