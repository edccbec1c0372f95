"""The streaming recogniser hears what batch decoding hears, dense and packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.talkative_model import FEATURES, TOKENIZER, talkative

from cspbench.asr.decoding import greedy
from cspbench.asr.model import Transducer
from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import log_mel
from cspbench.corpora.utterance import Utterance
from cspbench.runtime.streaming import StreamingRecogniser
from cspbench.spec import CorpusSpec


@pytest.fixture(scope="module")
def real_speech(an4_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    corpus = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path_factory.mktemp("cache"))
    return corpus.split("test")[:6]


def batch_labels(model: Transducer, samples: np.ndarray) -> list[int]:
    frames = log_mel(samples, FEATURES, 16_000)
    steps = len(frames) // FEATURES.stack
    stacked = torch.from_numpy(frames[: steps * FEATURES.stack].reshape(1, steps, -1))
    return greedy(model, model.normalise(stacked), torch.tensor([steps]))[0]


@pytest.mark.parametrize("weights", ["dense", "csr"])
@pytest.mark.parametrize("piece", [160, 480, 5000])
def test_streaming_agrees_with_batch_decoding_on_real_speech(
    real_speech: list[Utterance], weights: str, piece: int
) -> None:
    model = talkative()
    engine = StreamingRecogniser(model, TOKENIZER, FEATURES, 16_000, weights=weights)
    emitted = 0
    for utterance in real_speech:
        samples, _ = read_audio(utterance.audio)
        engine.reset()
        steps = sum(engine.accept(samples[i : i + piece]) for i in range(0, len(samples), piece))
        assert steps == ((len(samples) - 400) // 160 + 1) // 3
        assert engine.labels == batch_labels(model, samples)
        assert engine.text == TOKENIZER.decode(engine.labels)
        emitted += len(engine.labels)
    assert emitted > 50


def test_reset_forgets_the_utterance_before() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(16_000).astype(np.float32) * 0.1 for _ in range(2))
    engine = StreamingRecogniser(talkative(), TOKENIZER, FEATURES, 16_000)
    engine.accept(second)
    alone = engine.text
    engine.reset()
    engine.accept(first)
    engine.reset()
    assert engine.text == ""
    engine.accept(second)
    assert engine.text == alone
