"""Is one recogniser better than another on the same test utterances, or merely luckier?

The paired bootstrap of Bisani and Ney (2004, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP): test utterances are drawn with replacement, and both recognisers are scored on the same draw, so
that what is hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cspbench.errors import CspbenchError
from cspbench.report.results import load_hypotheses
from cspbench.store import Store

_CHUNK = 2_000_000  # draws held in memory at a time


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two corpus word error rates, first minus second: negative where the first is better.

    Attributes:
        wer_a: word error rate of the first, a fraction.
        wer_b: word error rate of the second, a fraction.
        difference: `wer_a` - `wer_b`.
        low: lower bound of the 95 % interval of the difference.
        high: upper bound.
        p_value: two-sided, of the hypothesis that both are equally good; at least 1 / (resamples + 1).
        units: number of things drawn: utterances, or groups of them.
    """

    wer_a: float
    wer_b: float
    difference: float
    low: float
    high: float
    p_value: float
    units: int


def paired_bootstrap(
    edits_a: ArrayLike,
    edits_b: ArrayLike,
    words: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two recognisers by their word errors on the same utterances.

    The interval is that of percentiles. The p-value is the share of draws whose difference, centred on the observed
    one, lies at least as far out as the observed one does.

    Args:
        edits_a: word errors of the first recogniser an utterance, shape (n,); a mean over seeds may be given.
        edits_b: the same of the second, shape (n,).
        words: reference words an utterance, shape (n,).
        groups: what the utterances belong to, e.g. their speakers, length n; whole groups are then drawn, since
            utterances of one speaker are not independent. None draws utterances.
        resamples: number of draws, >= 1.
        seed: of the draws; equal seeds give equal answers.

    Raises:
        ValueError: shapes that differ, no reference words, or no resamples.
    """
    table = np.stack([np.asarray(column, dtype=float) for column in (edits_a, edits_b, words)], axis=1)  # (n, 3)
    if table.ndim != 2 or table[:, 2].sum() <= 0 or resamples < 1:
        raise ValueError(f"need (n,) counts, reference words and resamples >= 1, got {table.shape}, {resamples}")
    if groups is not None:
        table = pd.DataFrame(table).groupby(np.asarray(groups), sort=True).sum().to_numpy()
    edits_a_total, edits_b_total, words_total = table.sum(axis=0)
    observed = (edits_a_total - edits_b_total) / words_total
    draws = _differences(table, resamples, np.random.default_rng(seed))
    # The tolerance keeps draws that equal the observed difference but for rounding.
    extreme = np.abs(draws - observed) >= abs(observed) * (1 - 1e-12)
    low, high = np.quantile(draws, [0.025, 0.975])
    return PairedComparison(
        wer_a=float(edits_a_total / words_total),
        wer_b=float(edits_b_total / words_total),
        difference=float(observed),
        low=float(low),
        high=float(high),
        p_value=float((1 + extreme.sum()) / (1 + len(draws))),
        units=len(table),
    )


def compare_trials(
    store: Store,
    first: Sequence[str],
    second: Sequence[str],
    *,
    by_speaker: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two lists of trials (the seeds of two settings) on the test utterances they all share.

    An utterance's errors are averaged over the trials of a list before utterances are drawn.

    Args:
        store: where the trials lie.
        first: ids of the trials of the first setting, at least one.
        second: ids of those of the second.
        by_speaker: draw whole speakers instead of utterances.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        CspbenchError: a trial without hypotheses, or trials that were tested on different utterances.
    """
    trials = [*first, *second]
    frames = [load_hypotheses(store, trial).set_index("id").sort_index() for trial in trials]
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
        resamples=resamples,
        seed=seed,
    )


def _differences(table: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Difference of the word error rates in each draw of rows of `table` (edits_a, edits_b, words), (resamples,)."""
    units = len(table)
    differences = []
    while resamples > 0:
        size = min(resamples, max(1, _CHUNK // units))
        counts = rng.multinomial(units, np.full(units, 1 / units), size=size)  # (size, units)
        edits_a, edits_b, words = (counts @ table).T
        drawn = words > 0  # a draw without a single reference word has no error rate
        differences.append((edits_a[drawn] - edits_b[drawn]) / words[drawn])
        resamples -= size
    return np.concatenate(differences)
