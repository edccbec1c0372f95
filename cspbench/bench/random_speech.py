"""Speech without any: for measurements that ask only how long something takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from cspbench.asr.tokenizer import train_tokenizer
from cspbench.corpora import Corpus
from cspbench.corpora.features import FeatureSet
from cspbench.corpora.utterance import Utterance
from cspbench.spec import FeatureSpec, TokenizerSpec
from cspbench.training.speech import Speech


@dataclass(frozen=True)
class SpeechShape:
    """Sizes of random speech; by default as in the corpora here: 1.5 to 3 s at 30 ms a step, a letter every 4 steps."""

    utterances: int = 256
    shortest: int = 50
    longest: int = 100
    steps_per_letter: int = 4


def random_speech(shape: SpeechShape, mels: int = 40, stack: int = 3) -> Speech:
    """A training split of noise and random letters; the same at every call."""
    rng = np.random.default_rng(0)
    steps = rng.integers(shape.shortest, shape.longest + 1, shape.utterances)
    texts = ["".join(rng.choice(list(ascii_lowercase), int(n) // shape.steps_per_letter)) for n in steps]
    utterances = tuple(
        Utterance(str(index), Path(), int(n) * stack / 100, "", text, "train", "")
        for index, (n, text) in enumerate(zip(steps, texts, strict=True))
    )
    spec = FeatureSpec(mels=mels, stack=stack)
    energies = np.exp(rng.standard_normal((int(steps.sum()) * stack, mels))).astype(np.float32)
    features = FeatureSet(utterances, energies, np.cumsum([0, *(steps * stack)]), steps * stack, spec)
    tokenizer = train_tokenizer(TokenizerSpec(), [ascii_lowercase])
    corpus = Corpus("random", 16_000, utterances, synthetic=True)
    targets = {"train": [tokenizer.encode(text) for text in texts]}
    return Speech(corpus, tokenizer, {("train", 1.0): features}, targets)  # type: ignore[arg-type]
