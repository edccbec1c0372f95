"""Word error rate: corpus-level, with an interval that behaves."""

from __future__ import annotations

import numpy as np
import pytest

from cspbench.asr.wer import count_edits, word_errors
from cspbench.report.bootstrap import crossed_bootstrap


@pytest.mark.parametrize(
    ("reference", "hypothesis", "edits"),
    [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b c", "", 3), ("a", "a b c", 2), ("a b", "b a", 2)],
)
def test_edits(reference: str, hypothesis: str, edits: int) -> None:
    found = count_edits(reference, hypothesis)
    assert (found.edits, found.words) == (edits, len(reference.split()))


def test_edits_are_told_apart() -> None:
    found = count_edits("the cat sat down", "the bat sat down now")
    assert (found.substitutions, found.deletions, found.insertions) == (1, 0, 1)
    assert (found.characters, found.character_edits) == (16, 5)  # b for c, and " now"
    assert count_edits("one two", "two").deletions == 1


def test_an_empty_reference_counts_insertions() -> None:
    found = count_edits("", "x y")
    assert (found.edits, found.insertions, found.words, found.characters, found.character_edits) == (2, 2, 0, 0, 3)


def test_wer_is_edits_over_words_not_a_mean_of_utterances() -> None:
    assert word_errors([1, 0], [1, 9]).wer == pytest.approx(0.1)


def test_interval_holds_the_estimate_narrows_with_data_and_repeats() -> None:
    few, many = word_errors([1, 0, 0, 1] * 5, [4] * 20), word_errors([1, 0, 0, 1] * 500, [4] * 2000)
    assert few.low < few.wer < few.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert few == word_errors([1, 0, 0, 1] * 5, [4] * 20)


def test_interval_agrees_with_the_normal_approximation() -> None:
    # 2000 one-word utterances, 10 % wrong: standard error sqrt(0.09 / 2000) = 0.0067.
    result = word_errors([1] * 200 + [0] * 1800, [1] * 2000, resamples=8000)
    assert result.high - result.low == pytest.approx(2 * 1.96 * 0.00671, rel=0.06)


def test_whole_speakers_are_drawn() -> None:
    """Two of four speakers are never understood. Three are drawn: none, one, two or three of these two, 1:3:3:1."""
    edits, speakers = [1] * 200 + [0] * 200, [who for who in "abcd" for _ in range(100)]
    found = word_errors(edits, [1] * 400, speakers)
    assert (found.wer, found.low, found.high, found.speakers) == (0.5, 0.0, 1.0, 4)
    inner = word_errors(edits, [1] * 400, speakers, level=0.7)  # 1/8 of the draws on either side
    assert (inner.low, inner.high) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_interval_over_speakers_agrees_with_the_normal_approximation() -> None:
    # 40 speakers of 100 words with 0, 1, ..., 39 errors: s^2 = 40 * 41 / 12, standard error s / sqrt(40) / 100.
    result = word_errors(range(40), [100] * 40, [f"s{i}" for i in range(40)], resamples=20000)
    assert result.high - result.low == pytest.approx(2 * 1.96 * 0.018485, rel=0.03)


def test_interval_over_speakers_is_that_of_comparisons() -> None:
    rng = np.random.default_rng(0)
    edits, words, speakers = rng.integers(0, 4, 60), rng.integers(4, 9, 60), [f"s{i % 6}" for i in range(60)]
    ours = word_errors(edits.tolist(), words.tolist(), speakers, resamples=20000)
    low, high = crossed_bootstrap([edits[None]], [words], [speakers], resamples=20000)
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.002), pytest.approx(high, abs=0.002))


@pytest.mark.parametrize("speakers", [["a", "b", "c"] * 4, ["a", "b", "c", "d", ""] * 2 + ["a", "b"], None])
def test_utterances_are_drawn_where_few_speakers_are_known(speakers: list[str] | None) -> None:
    plain = word_errors([1, 0, 2] * 4, [4] * 12)
    assert word_errors([1, 0, 2] * 4, [4] * 12, speakers) == plain
    assert plain.speakers is None


def test_no_words_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        word_errors([0], [0])
