"""Word error rate: corpus-level, with an interval that behaves."""

from __future__ import annotations

import pytest

from cspbench.asr.wer import count_edits, word_errors


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


def test_no_words_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        word_errors([0], [0])
