"""Word error rate of a corpus: edits over reference words, never a mean of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from cspbench.result import WordErrors


@dataclass(frozen=True)
class Edits:
    """Edits that turn the reference of one utterance into its hypothesis, in words, and in characters.

    Attributes:
        words: of the reference.
        substitutions: of words.
        deletions: of words.
        insertions: of words.
        characters: of the reference, spaces included.
        character_edits: substitutions, deletions and insertions of characters.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int
    characters: int
    character_edits: int

    @property
    def edits(self) -> int:
        """Word edits of all kinds."""
        return self.substitutions + self.deletions + self.insertions


def count_edits(reference: str, hypothesis: str) -> Edits:
    """Count the edits between a reference, which may be empty, and a hypothesis."""
    if not reference.split():
        return Edits(0, 0, 0, len(hypothesis.split()), 0, len(hypothesis))
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return Edits(
        words=len(reference.split()),
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        characters=characters.hits + characters.substitutions + characters.deletions,
        character_edits=characters.substitutions + characters.deletions + characters.insertions,
    )


def word_errors(
    edits: Sequence[int], words: Sequence[int], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> WordErrors:
    """Corpus WER with a percentile bootstrap interval over utterances (Bisani & Ney, ICASSP 2004).

    Args:
        edits: word edits of each utterance.
        words: reference words of each utterance; at least one in all.
        resamples: bootstrap samples.
        level: coverage of the interval.
        seed: the same inputs give the same interval.
    """
    e, w = np.asarray(edits, dtype=np.int64), np.asarray(words, dtype=np.int64)
    if len(e) != len(w) or w.sum() == 0:
        raise ValueError(f"need as many edit as word counts and at least one word, got {len(e)} and {len(w)}")
    drawn = np.random.default_rng(seed).multinomial(len(e), np.full(len(e), 1 / len(e)), size=resamples)
    totals = drawn @ w
    rates = (drawn @ e)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return WordErrors(
        wer=float(e.sum() / w.sum()),
        low=float(low),
        high=float(high),
        edits=int(e.sum()),
        words=int(w.sum()),
        utterances=len(e),
    )
