"""The same words give the same characters, whatever wrote them down."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.corpus_trees import load, small_manifest, write_manifest

from cspbench.corpora.text import normalise
from cspbench.errors import CorpusError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("  two \t words\u00a0here\u2028now ", "two words here now"),
        ("gru\u0308n", "grün"),
        ("GRU\u0308N", "grün"),
        ("a\u200bb", "ab"),
        ("\ufeffsoft\u00adhyphen", "softhyphen"),
        ("u\u200d\u0308", "ü"),
        ("\u202eright\u202c \u2066to\u2069", "right to"),
        ("heart\ufe0f", "heart"),
        ("\u1112\u1161\u11ab", "한"),
        ("\u200b", ""),
        ("call 911", "call 911"),
    ],
)
def test_spellings_of_the_same_text(written: str, expected: str) -> None:
    assert normalise(written) == expected


def test_options_of_case_and_digits() -> None:
    assert normalise("Call 42 ٣", lowercase=False, digits="spell") == "Call four two three"


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x7f", "\x9f", "\ud800", "\uffff"])
def test_characters_that_no_text_has_are_named(character: str) -> None:
    with pytest.raises(CorpusError, match=rf"transcript holds U\+{ord(character):04X}"):
        normalise(f"a{character}b")


@given(st.text(), st.booleans(), st.sampled_from(["keep", "spell"]))
def test_normalising_is_idempotent_and_composed(text: str, lowercase: bool, digits: str) -> None:
    try:
        once = normalise(text, lowercase=lowercase, digits=digits)  # type: ignore[arg-type]
    except CorpusError:
        return
    assert normalise(once, lowercase=lowercase, digits=digits) == once  # type: ignore[arg-type]
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, text), lowercase=lowercase, digits=digits) == once  # type: ignore[arg-type]


def test_a_corpus_written_in_two_unicode_forms_has_one_alphabet(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    for index, r in enumerate(rows):
        r["text"] = unicodedata.normalize("NFD" if index % 2 else "NFC", "grün \u200bändern")
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    corpus = load("manifest", tmp_path, tmp_path / "cache")
    assert {u.text for u in corpus.utterances} == {"grün ändern"}


def test_damaged_transcripts_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    rows[1]["text"], rows[2]["text"] = "bell \x07", "lone \ud800"
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    with pytest.raises(CorpusError) as caught:
        load("manifest", tmp_path, tmp_path / "cache")
    assert "manifest.jsonl:2: transcript holds U+0007, which no text has; remove it" in str(caught.value)
    assert "manifest.jsonl:3: holds half of a surrogate pair" in str(caught.value)


def test_options_of_the_text_change_the_fingerprint(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    marks = {load("manifest", tmp_path, tmp_path / "c", digits=d).fingerprint() for d in ("keep", "spell")}
    assert len(marks) == 2
