"""Sweep files that `cspbench init` writes: valid, and with settings that follow from the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench.config import load_config
from cspbench.config.template import advise, sweep_template
from cspbench.corpora import Corpus, Utterance
from cspbench.corpora.utterance import SPLITS
from cspbench.spec import CorpusSpec


def corpus(train: int, seconds: float, vocabulary: int, test: int = 2000, shared: bool = False) -> Corpus:
    """A corpus of utterances of four words; half a second of audio a word more or less."""
    counts = dict(zip(SPLITS, (train, 10, test), strict=True))
    found = [
        Utterance(
            id=f"{split}-{i}",
            audio=Path("x.wav"),
            duration=seconds,
            text=" ".join(f"w{(4 * i + k) % vocabulary}" for k in range(4)),
            speaker="anna" if shared else split,
            split=split,
            origin="",
        )
        for split, count in counts.items()
        for i in range(count)
    ]
    return Corpus("noise", 16000, tuple(found), False, shared)


@pytest.mark.parametrize(
    ("found", "preset", "batch_size", "epochs"),
    [
        (corpus(1400, 2.0, 14), "tiny", 8, 26),  # 175 steps an epoch, as rnnt.yaml
        (corpus(900, 3.0, 300), "small", 16, 79),  # 57 steps an epoch, as an4.yaml
        (corpus(28_000, 12.0, 5000), "paper", 16, 12),  # 93 hours
        (corpus(20, 2.0, 14), "tiny", 16, 120),
    ],
)
def test_settings_follow_from_the_corpus(found: Corpus, preset: str, batch_size: int, epochs: int) -> None:
    advice = advise(found)
    assert (advice.preset, advice.batch_size, advice.dense_epochs) == (preset, batch_size, epochs)
    assert advice.prune_epochs == max(2, round(epochs / 6))


def test_what_makes_results_weak_is_noted() -> None:
    weak = " ".join(advise(corpus(100, 40.0, 14, test=25, shared=True)).notes)
    assert "test has 100 words: a WER of 10 % is known to ±5.9 points" in weak
    assert "1 speakers of test are in train too" in weak
    assert "the longest utterance has 40 s" in weak
    assert advise(corpus(1400, 3.0, 14)).notes == ()


@pytest.mark.parametrize("hours", [0.5, 93])
def test_the_file_is_valid_and_says_what_it_holds(tmp_path: Path, hours: float) -> None:
    found = corpus(round(hours * 300), 12.0, 5000)
    spec = CorpusSpec(name="manifest", path="my: folder", options={"train": "a.jsonl", "lowercase": False})
    text = sweep_template("mine", spec, found, advise(found))
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(file)
    assert (config.name, config.corpus) == ("mine", spec)
    assert config.prune.epochs == advise(found).prune_epochs
    assert config.model.tokenizer.kind == ("character" if hours < 1 else "sentencepiece")
    assert max(map(len, text.splitlines())) <= 120
