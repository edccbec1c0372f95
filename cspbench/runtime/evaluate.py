"""Word errors of a packed recogniser, decoded as it runs: by its own engine, in its own number format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cspbench.asr.wer import count_edits, word_errors
from cspbench.corpora.audio import read_utterance
from cspbench.corpora.base import Utterance
from cspbench.result import WordErrors
from cspbench.runtime.packing import PackedModel
from cspbench.runtime.recogniser import Recogniser


def decode_packed(packed: PackedModel, utterances: Iterable[Utterance], threads: int = 1) -> list[str]:
    """Decode utterances, each as a stream of its own that is handed over at once.

    Args:
        packed: the recogniser; an int8 file is decoded in int8.
        utterances: of a corpus at the sample rate of the recogniser.
        threads: of the native engine.

    Returns:
        One text for each utterance.

    Raises:
        CorpusError: audio that cannot be read, or of another sample rate.
        RecogniserError: samples that the recogniser refuses.
    """
    recogniser = Recogniser(packed, threads)
    texts = []
    for utterance in utterances:
        recogniser.reset()
        recogniser.accept(read_utterance(utterance, packed.header.sample_rate))
        texts.append(recogniser.finish())
    return texts


def packed_word_errors(packed: PackedModel, utterances: Sequence[Utterance], threads: int = 1) -> WordErrors:
    """Corpus word and character error rates of a packed recogniser on utterances; see `decode_packed`."""
    texts = decode_packed(packed, utterances, threads)
    counts = [count_edits(u.text, text) for u, text in zip(utterances, texts, strict=True)]
    errors = word_errors([c.edits for c in counts], [c.words for c in counts], [u.speaker for u in utterances])
    totals = {kind: sum(getattr(c, kind) for c in counts) for kind in ("substitutions", "deletions", "insertions")}
    cer = sum(c.character_edits for c in counts) / sum(c.characters for c in counts)
    return errors.model_copy(update=totals | {"cer": cer})
