"""Recognise a split and count its word errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from cspbench.asr.decoding import greedy
from cspbench.asr.model import Transducer
from cspbench.asr.wer import count_edits, word_errors
from cspbench.corpora.base import Split
from cspbench.result import WordErrors
from cspbench.training.speech import Speech


@dataclass(frozen=True)
class Recognised:
    """One utterance: reference, hypothesis, word edits between them, reference words."""

    id: str
    speaker: str
    reference: str
    hypothesis: str
    edits: int
    words: int

    def row(self) -> dict[str, Any]:
        """JSON value."""
        return asdict(self)


def recognise(model: Transducer, speech: Speech, split: Split) -> list[Recognised]:
    """Decode a split greedily, in corpus order."""
    utterances = speech.corpus.split(split)
    device = model.device
    hypotheses: dict[int, str] = {}
    model.eval()
    with torch.no_grad():
        for batch in speech.batches(split):
            moved = batch.to(device)
            labels = greedy(model, model.normalise(moved.features), moved.frames)
            hypotheses |= {i: speech.tokenizer.decode(ids) for i, ids in zip(batch.indices, labels, strict=True)}
    return [
        Recognised(u.id, u.speaker, u.text, hypotheses[i], *count_edits(u.text, hypotheses[i]))
        for i, u in enumerate(utterances)
    ]


def errors(recognised: list[Recognised]) -> WordErrors:
    """Corpus WER with its interval."""
    return word_errors([r.edits for r in recognised], [r.words for r in recognised])
