"""Word errors of packed recognisers are those of the texts that their own engine decodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.talkative_model import talkative, trained

from cspbench.asr.wer import count_edits
from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_utterance
from cspbench.corpora.base import Utterance
from cspbench.runtime import Recogniser, extension
from cspbench.runtime.evaluate import decode_packed, packed_word_errors
from cspbench.runtime.packing import pack_model
from cspbench.spec import CorpusSpec

needs_native = pytest.mark.skipif(not extension.available(), reason="the native module is not built here")


@pytest.fixture(scope="module")
def real_speech(an4_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    corpus = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path_factory.mktemp("cache"))
    return corpus.split("test")[:6]


@needs_native
def test_int8_is_decoded_in_int8_and_alike_in_every_format(real_speech: list[Utterance]) -> None:
    model = trained(talkative())
    fp32, int8, other = (
        decode_packed(pack_model(model, format=format, values=values), real_speech)
        for format, values in (("csr16", "fp32"), ("csr16", "int8"), ("window", "int8"))
    )
    assert int8 == other
    assert int8 != fp32  # an untrained model: every rounding shows
    assert all(text for text in int8)


def test_errors_are_counted_over_the_corpus(real_speech: list[Utterance]) -> None:
    packed = pack_model(trained(talkative()), format="csr16")
    found = packed_word_errors(packed, real_speech)
    recogniser = Recogniser(packed)
    edits = 0
    for utterance in real_speech:
        stream = recogniser.stream()
        stream.accept(read_utterance(utterance))
        edits += count_edits(utterance.text, stream.finish()).edits
    assert found.edits == edits > 0
    assert found.words == sum(len(u.text.split()) for u in real_speech)
    assert found.edits == found.substitutions + found.deletions + found.insertions
    assert found.utterances == len(real_speech)
    assert found.cer > 0
