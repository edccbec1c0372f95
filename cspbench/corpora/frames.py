"""Samples and frames of the front end, counted without computing anything."""

from __future__ import annotations

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
