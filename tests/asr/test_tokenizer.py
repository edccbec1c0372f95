"""Tokenizers: there and back, what they refuse, and how they are saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cspbench.asr.tokenizer import BLANK, check_texts, load_tokenizer, train_tokenizer
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
