"""Decode a split, count its errors and compute its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cspbench.asr.decoding import greedy_encoded
from cspbench.asr.loss import joint_transducer_loss
from cspbench.asr.model import Transducer
from cspbench.asr.tokenizer import BLANK
from cspbench.asr.wer import count_edits, word_errors
from cspbench.corpora.base import Split
from cspbench.corpora.batches import Batch
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
        loss: transducer loss of the reference, in nats.
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
def recognise(model: Transducer, speech: Speech, split: Split) -> list[Recognised]:
    """Decode a split greedily and compute the loss of its references, in corpus order."""
    utterances = speech.corpus.split(split)
    found: dict[int, tuple[str, int, float]] = {}
    model.eval()
    for batch in speech.batches(split):
        moved = batch.to(model.device)
        encoded, _ = model.forward_encoder(model.normalise(moved.features))
        hypotheses = greedy_encoded(model, encoded, moved.frames)
        rows = zip(batch.indices, hypotheses, batch.labels.tolist(), _losses(model, encoded, moved), strict=True)
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


def _losses(model: Transducer, encoded: Tensor, batch: Batch) -> list[float]:
    """Transducer loss of each utterance of a batch, for encodings (N, T, H) of a model without dropout."""
    started = torch.nn.functional.pad(batch.targets, (1, 0), value=BLANK)  # (N, U + 1)
    predicted, _ = model.forward_prediction(started)
    return joint_transducer_loss(
        model.joint_encoder(encoded),
        model.joint_prediction(predicted),
        model.joint_output.weight,
        model.joint_output.bias,
        batch.targets,
        batch.frames,
        batch.labels,
        blank=BLANK,
        reduction="none",
    ).tolist()


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


def dev_metrics(model: Transducer, speech: Speech) -> dict[str, float]:
    """WER (a fraction) and loss (nats a label) on dev, for the training curve."""
    found = errors(recognise(model, speech, "dev"))
    assert found.loss is not None
    return {"dev_wer": found.wer, "dev_loss": found.loss}
