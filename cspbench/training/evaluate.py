"""Decode a split, count its errors and compute its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from cspbench.asr.speech_model import SpeechModel
from cspbench.asr.wer import count_edits, word_errors
from cspbench.corpora.base import Split
from cspbench.result import WordErrors
from cspbench.training.speech import Speech


@dataclass(frozen=True)
class Recognised:
    """One utterance after decoding.

    Attributes:
        id: of the utterance.
        speaker: who spoke.
        reference: what was said.
        hypothesis: what was recognised.
        edits: word edits between the two, of all kinds.
        words: of the reference.
        substitutions: of words, as the next two.
        deletions: see there.
        insertions: see there.
        characters: of the reference.
        character_edits: between the two.
        labels: output units of the reference.
        loss: the recogniser's loss of the reference, in nats.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    edits: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    characters: int
    character_edits: int
    labels: int
    loss: float

    def row(self) -> dict[str, Any]:
        """JSON value."""
        return asdict(self)


@torch.no_grad()
def recognise(model: SpeechModel, speech: Speech, split: Split) -> list[Recognised]:
    """Decode a split and compute the loss of its references, in corpus order."""
    utterances = speech.corpus.split(split)
    found: dict[int, tuple[str, int, float]] = {}
    model.eval()
    for batch in speech.batches(split):
        moved = batch.to(model.device)
        moved = replace(moved, features=model.normalise(moved.features))
        outputs = model.outputs(moved)
        losses = model.loss(outputs, moved).tolist()
        rows = zip(batch.indices, model.decode(outputs, moved), batch.labels.tolist(), losses, strict=True)
        found |= {index: (speech.tokenizer.decode(ids), labels, loss) for index, ids, labels, loss in rows}
    recognised = []
    for index, utterance in enumerate(utterances):
        hypothesis, labels, loss = found[index]
        counts = count_edits(utterance.text, hypothesis)
        recognised.append(
            Recognised(
                id=utterance.id,
                speaker=utterance.speaker,
                reference=utterance.text,
                hypothesis=hypothesis,
                edits=counts.edits,
                **asdict(counts),
                labels=labels,
                loss=loss,
            )
        )
    return recognised


def errors(recognised: Sequence[Recognised]) -> WordErrors:
    """Word and character error rates of a corpus, and its mean loss per label."""
    counted = word_errors([r.edits for r in recognised], [r.words for r in recognised], [r.speaker for r in recognised])
    characters = sum(r.characters for r in recognised)
    labels = sum(r.labels for r in recognised)
    return counted.model_copy(
        update={
            "substitutions": sum(r.substitutions for r in recognised),
            "deletions": sum(r.deletions for r in recognised),
            "insertions": sum(r.insertions for r in recognised),
            "cer": sum(r.character_edits for r in recognised) / characters,
            "loss": sum(r.loss for r in recognised) / labels,
        }
    )


def dev_metrics(model: SpeechModel, speech: Speech) -> dict[str, float]:
    """WER (a fraction) and loss (nats a label) on dev, for the training curve."""
    found = errors(recognise(model, speech, "dev"))
    assert found.loss is not None
    return {"dev_wer": found.wer, "dev_loss": found.loss}
