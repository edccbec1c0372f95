"""The recogniser beside batch decoding in torch on all of AN4 test, for models that really were trained.

Which ones, and what came out:

    CSPBENCH_MODELS=runs/dense/ID:runs/trials/ID python -m pytest -m slow -s tests/end_to_end/test_recogniser_an4.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cspbench.asr.decoding import greedy
from cspbench.asr.wer import count_edits
from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import model_inputs
from cspbench.runtime import Recogniser, extension
from cspbench.runtime.packing import pack_model
from cspbench.spec import CorpusSpec
from cspbench.training.checkpoint import load_model

CHANGES: dict[str, list[float]] = {}
MODELS = [Path(m) for m in os.environ.get("CSPBENCH_MODELS", "").split(":") if m]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not MODELS, reason="CSPBENCH_MODELS names no model"),
    pytest.mark.skipif(not extension.available(), reason="the native module is not built here"),
]


def wer(references: Sequence[str], texts: Sequence[str]) -> float:
    counts = [count_edits(r, t) for r, t in zip(references, texts, strict=True)]
    return 100 * sum(c.edits for c in counts) / sum(c.words for c in counts)


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_an4_is_heard_as_by_batch_decoding(folder: Path, an4_path: Path, tmp_path: Path) -> None:
    """fp32: every label the same. Fewer bits: WER within 1.0 absolute here, and within 0.3 over all models."""
    trained = load_model(folder)
    model, tokenizer, features, rate = trained.model, trained.tokenizer, trained.features, trained.sample_rate
    utterances = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path).split("test")
    audio = [read_audio(u.audio)[0] for u in utterances]
    texts = [u.text for u in utterances]
    torch.set_num_threads(1)

    def batch(samples: np.ndarray) -> list[int]:
        inputs = model_inputs(samples, features, rate)
        return greedy(model, model.normalise(torch.from_numpy(inputs)[None]), torch.tensor([len(inputs)]))[0]

    expected = [batch(samples) for samples in audio]
    rates = {"torch": wer(texts, [tokenizer.decode(labels) for labels in expected])}
    different = {}
    for format, values in [("dense", "fp32"), *(("window", v) for v in ("fp32", "fp16", "bf16", "int8"))]:
        packed = pack_model(trained, format=format, values=values)
        recogniser = Recogniser(packed)
        heard = []
        for samples in audio:
            stream = recogniser.stream()
            for piece in np.split(samples, range(800, len(samples), 800)):
                stream.accept(piece)
            stream.finish()
            heard.append(stream)
        name = f"{format} {values}"
        rates[name] = wer(texts, [stream.text for stream in heard])
        different[name] = sum(stream.labels != labels for stream, labels in zip(heard, expected, strict=True))
    print(f"\n{folder}: {len(audio)} utterances, WER % {rates}, utterances that differ from torch {different}")
    assert different["dense fp32"] == different["window fp32"] == 0
    for name, rate_ in rates.items():
        CHANGES.setdefault(name, []).append(rate_ - rates["torch"])
        assert abs(rate_ - rates["torch"]) <= 1.0, name


def test_fewer_bits_change_the_word_error_rate_by_less_than_it_scatters() -> None:
    """The mean over the models above: one utterance of AN4 test heard differently is up to 0.8 absolute of a model."""
    for name, changes in CHANGES.items():
        print(f"{name}: WER {np.mean(changes):+.2f} absolute over {len(changes)} models")
        assert abs(np.mean(changes)) <= 0.3, name
