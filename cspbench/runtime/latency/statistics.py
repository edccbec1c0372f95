"""Medians and ratios of measured times, with bootstrap intervals.

Times of neighbouring steps are correlated: a disturbance lasts longer than a step. The bootstrap therefore draws
*blocks*, the steps of one utterance in one repetition, never single steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cspbench.result import Interval, TimeRatio

RESAMPLES = 1000
Floats = NDArray[np.float64]


def median(blocks: Sequence[Floats], seed: int = 0) -> Interval:
    """Median over the steps of all blocks, with its 95 % bootstrap interval over blocks.

    Args:
        blocks: times of the steps, one array a block.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(blocks), size=(RESAMPLES, len(blocks)))
    medians = [float(np.median(np.concatenate([blocks[i] for i in draw]))) for draw in draws]
    return _interval(float(np.median(np.concatenate(blocks))), np.asarray(medians), len(blocks))


def ratio(above: Sequence[Floats], below: Sequence[Floats], seed: int = 0) -> Interval:
    """Median of the ratios of paired blocks' medians, with its 95 % bootstrap interval over pairs.

    Block i of both must be the same work, done one right after the other, so that a disturbance slows both.
    """
    pairs = np.asarray([np.median(a) / np.median(b) for a, b in zip(above, below, strict=True)])
    draws = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    return _interval(float(np.median(pairs)), np.median(pairs[draws], axis=1), len(pairs))


def compared(ratio: Interval, same: Interval) -> TimeRatio:
    """Judge a ratio beside that of an engine to itself, which reaches as far from 1 as noise does."""
    beyond = abs(np.log(ratio.value)) > max(abs(np.log(same.low)), abs(np.log(same.high)))
    faster, slower = beyond and ratio.low > 1, beyond and ratio.high < 1
    verdict: Literal["faster", "slower", "undecided"] = "faster" if faster else "slower" if slower else "undecided"
    return TimeRatio(**ratio.model_dump(), verdict=verdict)


def _interval(value: float, draws: Floats, units: int) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high), units=units)
