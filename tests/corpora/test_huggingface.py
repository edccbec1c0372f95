"""A dataset of Hugging Face on disk is read as the same corpus as a manifest of the same speech."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.corpus_trees import RATE, load

from cspbench.corpora.audio import read_utterance
from cspbench.corpora.inspection import detect
from cspbench.errors import CorpusError

datasets = pytest.importorskip("datasets", reason="DATASETS ABSENT: pip install 'cspbench[datasets]'")
TEXTS = ("hello", "good day")


def speech(split: str, index: int) -> np.ndarray:
    seed = 10 * ("train", "validation", "test").index(split) + index
    return (0.1 * np.random.default_rng(seed).standard_normal(RATE)).astype(np.float32)


def encoded(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC")
    return buffer.getvalue()


def save(folder: Path, splits: tuple[str, ...] = ("train", "validation", "test")) -> Path:
    """Two utterances of a second in each split, their audio inside the dataset."""
    stored = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}  # encoding needs torchcodec
    features = datasets.Features(
        {"audio": stored, "sentence": datasets.Value("string"), "who": datasets.Value("int64")}
    )
    made = {}
    for split in splits:
        rows = {
            "audio": [{"bytes": encoded(speech(split, i)), "path": f"{i}.flac"} for i in (0, 1)],
            "sentence": [text.upper() for text in TEXTS],
            "who": [100 * splits.index(split) + i for i in (0, 1)],
        }
        plain = datasets.Dataset.from_dict(rows, features=features)
        made[split] = plain.cast_column("audio", datasets.Audio())
    datasets.DatasetDict(made).save_to_disk(str(folder / "speech"))
    return folder / "speech"


def test_splits_texts_speakers_and_audio_are_read(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert detect(path) == "huggingface"
    corpus = load("huggingface", path, tmp_path / "cache", text="sentence", speaker="who")
    assert [(u.id, u.split, u.duration, u.speaker, u.text) for u in corpus.utterances][:3] == [
        ("train-000000", "train", 1.0, "0", "hello"),
        ("train-000001", "train", 1.0, "1", "good day"),
        ("dev-000000", "dev", 1.0, "100", "hello"),
    ]
    np.testing.assert_allclose(read_utterance(corpus.utterances[1], RATE), speech("train", 1), atol=1e-4)
    files = {u.audio: u.audio.stat().st_mtime_ns for u in corpus.utterances}
    again = load("huggingface", path, tmp_path / "cache", text="sentence", speaker="who")
    assert {u.audio: u.audio.stat().st_mtime_ns for u in again.utterances} == files, "written once"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, ("train", "validation"))
    with pytest.raises(CorpusError, match=r"has no split 'test' \(there are: train, validation\); name that for test"):
        load("huggingface", path, tmp_path / "cache")
    with pytest.raises(CorpusError, match="has no column 'text' \\(has: audio, sentence, who\\)"):
        load("huggingface", path, tmp_path / "cache", test="validation")
    with pytest.raises(CorpusError, match="column 'sentence' holds no audio"):
        load("huggingface", path, tmp_path / "cache", test="validation", text="sentence", audio="sentence")
    with pytest.raises(CorpusError, match=r"has no dataset_dict\.json"):
        load("huggingface", tmp_path, tmp_path / "cache")
    (path / "train" / "state.json").write_text(json.dumps({}))
    with pytest.raises(CorpusError, match="cannot be read as a dataset"):
        load("huggingface", path, tmp_path / "cache", text="sentence")
