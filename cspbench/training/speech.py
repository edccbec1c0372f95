"""A corpus made ready for a recogniser: features, tokenizer and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cspbench.asr.tokenizer import Tokenizer, check_texts, train_tokenizer
from cspbench.corpora import Corpus, load_corpus
from cspbench.corpora.base import SPLITS, Split
from cspbench.corpora.batches import Batch, collate, evaluation_batches
from cspbench.corpora.features import FeatureSet, prepare_features
from cspbench.spec import DenseSpec
from cspbench.store import Store
from cspbench.training.events import Event, Listener, silent
from cspbench.training.loop import TrainingData
from cspbench.training.pretrained import pretrained_tokenizer


@dataclass(frozen=True)
class Speech:
    """A corpus with its features, tokenizer and targets: the input of training and evaluation."""

    corpus: Corpus
    tokenizer: Tokenizer
    features: dict[tuple[Split, float], FeatureSet]
    targets: dict[Split, list[list[int]]]

    def training(self) -> TrainingData:
        """The training split at all its speeds."""
        by_speed = {speed: features for (split, speed), features in self.features.items() if split == "train"}
        return TrainingData(by_speed, self.targets["train"])

    def batches(self, split: Split, size: int = 64) -> Iterator[Batch]:
        """All utterances of a split once, at natural speed."""
        return evaluation_batches(self.features[split, 1.0], self.targets[split], size)

    def calibration(self, utterances: int, skip: int = 0, size: int = 16) -> Iterator[Batch]:
        """The `utterances` training utterances after the first `skip` of a fixed shuffle, round and round.

        They come sorted by length, so that little of a batch is padding.
        """
        features = self.features["train", 1.0]
        shuffled = torch.randperm(len(features), generator=torch.Generator().manual_seed(0)).tolist()
        taken = [shuffled[(skip + place) % len(shuffled)] for place in range(min(utterances, len(shuffled)))]
        lengths = features.lengths()
        order = sorted(taken, key=lambda row: int(lengths[row]))
        for start in range(0, len(order), size):
            yield collate(features, self.targets["train"], order[start : start + size])


_prepared: dict[tuple[Path, str], Speech] = {}


def prepare_speech(spec: DenseSpec, store: Store, listener: Listener = silent, speeds: Sequence[float] = ()) -> Speech:
    """Load, check and featurise the corpus of a spec; everything already on disk is reused.

    The trials of a sweep start from the same speech: the last one prepared stays in memory.

    Args:
        spec: of the dense recogniser.
        store: keeps audio and features.
        listener: called with events.
        speeds: of a training that follows, beside those of the dense one.

    Raises:
        CorpusError: anything about the audio or the transcripts that would break training later.
    """
    key = (store.root, spec.id)
    needed = {*spec.training.augment.speeds, *speeds}
    if key not in _prepared or any(("train", speed) not in _prepared[key].features for speed in needed):
        _prepared.clear()
        _prepared[key] = _prepare(spec, store, listener, sorted(needed))
    return _prepared[key]


def _prepare(spec: DenseSpec, store: Store, listener: Listener, speeds: Sequence[float]) -> Speech:
    def say(line: str) -> None:
        listener(Event("prepare", message=line))

    corpus = load_corpus(spec.corpus, store.corpora, say)
    if spec.pretrained is None:
        tokenizer = train_tokenizer(spec.model.tokenizer, [u.text for u in corpus.split("train")])
    else:
        tokenizer = pretrained_tokenizer(spec.pretrained)
    check_texts(tokenizer, corpus.split("train") if corpus.score_unseen else corpus.utterances)
    encode = tokenizer.encode_known if corpus.score_unseen else tokenizer.encode
    features = prepare_features(corpus, spec.features, store.features, speeds, say)
    targets = {split: [encode(u.text) for u in corpus.split(split)] for split in SPLITS}
    return Speech(corpus, tokenizer, features, targets)
