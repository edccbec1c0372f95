"""Tokenizers: there and back, what they refuse, and how they are saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.asr.tokenizer import (
    BLANK,
    SentencePieceTokenizer,
    Tokenizer,
    check_texts,
    load_tokenizer,
    train_tokenizer,
)  # fmt: skip
from cspbench.corpora.base import Utterance
from cspbench.errors import CorpusError
from cspbench.spec import TokenizerSpec

TEXTS = [f"{a} {b} {c}" for a in ("turn", "switch") for b in ("on", "off") for c in ("the light", "a fan", "it")]
SPECS = [TokenizerSpec(), TokenizerSpec(kind="sentencepiece", vocab_size=20)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_texts_survive_encoding_saving_and_decoding(spec: TokenizerSpec) -> None:
    tokenizer = train_tokenizer(spec, TEXTS)
    again = load_tokenizer(json.loads(json.dumps(tokenizer.state())))
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert again.decode(ids) == text
        assert BLANK not in ids
        assert max(ids) < tokenizer.size == again.size


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_unknown_characters_are_refused(spec: TokenizerSpec) -> None:
    with pytest.raises(ValueError, match="q"):
        train_tokenizer(spec, TEXTS).encode("turn on the quiz")


def test_every_bad_transcript_is_named_in_one_error() -> None:
    tokenizer = train_tokenizer(TokenizerSpec(), TEXTS)
    bad = [Utterance(f"u{i}", Path("x.wav"), 1.0, "s", "turn on 5", "dev", f"list.jsonl:{i}") for i in range(12)]
    with pytest.raises(CorpusError) as error:
        check_texts(tokenizer, bad)
    lines = str(error.value).splitlines()
    assert "list.jsonl:0: utterance 'u0' (dev): character '5'" in lines[0]
    assert "and 2 more" in lines[10]
    assert len(lines) == 12


def test_too_many_pieces_for_too_little_text_is_explained() -> None:
    with pytest.raises(CorpusError, match=r"lower model\.tokenizer\.vocab_size"):
        train_tokenizer(TokenizerSpec(kind="sentencepiece", vocab_size=5000), TEXTS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_known_characters_of_a_text_can_be_encoded_alone(spec: TokenizerSpec) -> None:
    tokenizer = train_tokenizer(spec, TEXTS)
    assert tokenizer.decode(tokenizer.encode_known("turn 5on")) == "turn on"
    assert tokenizer.encode_known("") == []


TRAINED = [train_tokenizer(spec, TEXTS) for spec in SPECS]


@pytest.mark.parametrize("tokenizer", TRAINED, ids=lambda t: type(t).__name__)
@given(data=st.data())
def test_text_grows_by_what_new_ids_add(tokenizer: Tokenizer, data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.lists(st.integers(1, tokenizer.size - 1), max_size=5), max_size=6))
    text = ""
    for chunk in chunks:
        text += tokenizer.decode_more(chunk, text)
    assert text == tokenizer.decode([i for chunk in chunks for i in chunk])
    if isinstance(tokenizer, SentencePieceTokenizer):
        assert text.strip() == tokenizer._pieces.decode([i for chunk in chunks for i in chunk]).strip()


def test_pieces_spell_texts_as_they_are() -> None:
    texts = [f"½ ﬁne {text} x² Ⅷ" for text in TEXTS]
    tokenizer = train_tokenizer(TokenizerSpec(kind="sentencepiece", vocab_size=26), texts)
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]


def test_long_texts_are_trained_on_as_well() -> None:
    tokenizer = train_tokenizer(SPECS[1], [*TEXTS, "quiz " * 2000])
    assert tokenizer.decode(tokenizer.encode("quiz")) == "quiz"
