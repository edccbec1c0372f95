"""Tests of the hypothesis that two recognisers are equally good, from their errors on the same test utterances.

Three tests that rest on different assumptions: the exact sign-flip test by speaker (`sign_flip`), the paired bootstrap
by utterances or speakers (`cspbench.report.bootstrap`), and `mapsswe`, the matched-pairs test of Gillick and Cox (1989,
"Some statistical issues in the comparison of speech recognition algorithms", ICASSP) that NIST's sc_stats made the
custom of the field. `holm` corrects p-values for having made several tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cspbench.errors import CspbenchError
from cspbench.report.bootstrap import Floats, PairedDifference, paired_bootstrap, resolution
from cspbench.report.trial import Trial
from cspbench.store import Store

LEVEL = 0.05
"""p-value below which a difference is called significant."""

EXACT_UNITS = 40
"""Largest number of units for which `sign_flip` counts all sign patterns; above, it draws them."""

_DRAWS = 99_999


@dataclass(frozen=True)
class SignFlip:
    """Outcome of `sign_flip`.

    Attributes:
        p_value: two-sided, of the hypothesis that each unit's difference is as likely to have the other sign.
        floor: smallest p-value that so many units can give.
        units: number of units whose signs are flipped.
    """

    p_value: float
    floor: float
    units: int


def sign_flip(
    edits_a: ArrayLike, edits_b: ArrayLike, groups: Sequence[str] | None = None, *, seed: int = 0
) -> SignFlip:
    """Exact paired permutation test of the total difference in errors (Fisher's randomisation test for pairs).

    Errors are added up by group. If both recognisers are equally good, exchanging them within a group is as likely as
    not, so every pattern of signs of the group differences d is equally probable. The p-value is the fraction of the
    2^n patterns in which the absolute sum of ±d is at least that observed. No distribution is assumed. All patterns are
    counted up to `EXACT_UNITS` groups; above, 99,999 are drawn.

    Args:
        edits_a: word errors of the first recogniser an utterance, shape (n,); a mean over runs may be given.
        edits_b: the same of the second, shape (n,).
        groups: the speaker of each utterance, length n; None: each utterance is a group of its own.
        seed: of the draws, where patterns are drawn.

    Raises:
        ValueError: shapes that differ, or no utterances.

    Example:
        >>> sign_flip([1, 1, 2], [2, 3, 2], ["a", "b", "c"]).p_value  # d = -1, -2, 0: 2 of the 4 patterns reach 3
        0.5
    """
    a, b = np.asarray(edits_a, dtype=float), np.asarray(edits_b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need (n,) errors of both with n >= 1, got {a.shape} and {b.shape}")
    difference = a - b
    if groups is not None:
        _, codes = np.unique(np.asarray(groups), return_inverse=True)
        difference = np.bincount(codes, weights=difference)
    floor = resolution(len(difference))
    p_value = _sign_flip_p(difference, np.random.default_rng(seed))
    return SignFlip(max(p_value, floor), floor, len(difference))


def _sign_flip_p(difference: Floats, rng: np.random.Generator) -> float:
    """Fraction of sign patterns whose sum is as far from zero as that of `difference`, (units,)."""
    tolerance = 1e-9 * max(1.0, float(np.abs(difference).sum()))
    difference = difference[np.abs(difference) > tolerance]  # a unit without difference changes no sum
    reached = abs(float(difference.sum())) - tolerance
    if reached <= 0:
        return 1.0
    if len(difference) > EXACT_UNITS:
        signs = rng.integers(0, 2, (_DRAWS, len(difference))) * 2 - 1
        return float((1 + (np.abs(signs @ difference) >= reached).sum()) / (1 + _DRAWS))
    # All sums of one half against the sorted sums of the other: 2 x 2^(n/2) numbers in place of 2^n.
    half = len(difference) // 2
    first, second = _all_sums(difference[:half]), np.sort(_all_sums(difference[half:]))
    above = len(second) - np.searchsorted(second, reached - first, side="left")
    below = np.searchsorted(second, -reached - first, side="right")
    return float((above + below).sum()) / 2.0 ** len(difference)


def _all_sums(values: Floats) -> Floats:
    """Sums of ±values over all sign patterns, (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@dataclass(frozen=True)
class MatchedPairs:
    """Outcome of `mapsswe`.

    Attributes:
        difference: mean over segments of the first's errors minus the second's; negative where the first is better.
        z: the difference in its standard errors.
        p_value: two-sided, of the hypothesis that the mean difference is zero.
        segments: number of segments.
    """

    difference: float
    z: float
    p_value: float
    segments: int


def mapsswe(edits_a: ArrayLike, edits_b: ArrayLike) -> MatchedPairs:
    """Matched-pairs sentence-segment word error test of Gillick and Cox, as NIST's sc_stats computes it.

    With d the difference of the errors of a segment, Z = mean(d) / (s / sqrt(n)), s the standard deviation with divisor
    n - 1, and p = 2 (1 - Phi(|Z|)). Where all d are equal, s is 0: Z is 0 and p is 1 if they are 0, else Z is infinite
    and p is the `resolution` of n segments, the exact p-value of n differences of one sign. Segments must be
    independent. sc_stats cuts continuous speech where both recognisers are right about two words or more; utterances
    that were recorded apart are segments already, and are taken whole here. The normal law asks for fifty segments or
    so.

    What it does not see: utterances of one speaker share an accent, and so are not independent where the recognisers
    differ by speaker. Beside it belongs `paired_bootstrap` by speaker.

    Args:
        edits_a: word errors of the first recogniser a segment, shape (n,), n >= 2; a mean over seeds may be given.
        edits_b: the same of the second.

    Raises:
        ValueError: shapes that differ, or fewer than two segments.

    Example:
        >>> mapsswe([1, 0, 2, 1], [2, 1, 2, 3]).z  # differences -1, -1, 0, -2: mean -1, s² = 2/3
        -2.449489742783178
    """
    a, b = np.asarray(edits_a, dtype=float), np.asarray(edits_b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"need (n,) errors of both with n >= 2, got {a.shape} and {b.shape}")
    difference = a - b
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if spread > 1e-12:
        z = mean / (spread / math.sqrt(len(a)))
        return MatchedPairs(mean, z, math.erfc(abs(z) / math.sqrt(2)), len(a))
    if abs(mean) < 1e-12:
        return MatchedPairs(mean, 0.0, 1.0, len(a))
    return MatchedPairs(mean, math.copysign(math.inf, mean), resolution(len(a)), len(a))


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for being a family of tests (Holm 1979): the chance of any false alarm stays below the level.

    The smallest of m is multiplied by m, the next by m - 1, …; none falls below one that was smaller, none exceeds 1.

    Args:
        p_values: shape (m,); NaN marks a test that was not made: it stays NaN and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaNs sort last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def compare_trials(
    first: Sequence[str],
    second: Sequence[str],
    root: Store | Path | str = "runs",
    *,
    by_speaker: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two lists of trials (the seeds of two settings) on the test utterances they all share.

    An utterance's errors are averaged over the trials of a list before utterances are drawn.

    Args:
        first: ids of the trials of the first setting, at least one.
        second: ids of those of the second.
        root: folder of all results.
        by_speaker: draw whole speakers instead of utterances; they are few, so the bootstrap is studentised.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        CspbenchError: a trial without hypotheses, or trials that were tested on different utterances.
        ValueError: `by_speaker` where all utterances are of one.
    """
    trials = [*first, *second]
    frames = [Trial(trial, Store(root)).hypotheses.set_index("id").sort_index() for trial in trials]
    reference = frames[0]
    for trial, frame in zip(trials, frames, strict=True):
        if not frame["reference"].equals(reference["reference"]):
            raise CspbenchError(f"trials {trials[0]} and {trial} were not tested on the same utterances")
    edits = [frame["edits"].to_numpy(dtype=float) for frame in frames]
    return paired_bootstrap(
        np.mean(edits[: len(first)], axis=0),
        np.mean(edits[len(first) :], axis=0),
        reference["words"].to_numpy(),
        groups=reference["speaker"].tolist() if by_speaker else None,
        studentised=by_speaker,
        resamples=resamples,
        seed=seed,
    )
