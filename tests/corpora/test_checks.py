"""Every mistake in a corpus is found before training, and told with its file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.corpus_trees import load, row, small_manifest, tone, write_manifest

from cspbench.corpora import corpora, load_corpus, parse_options
from cspbench.errors import ConfigError, CorpusError
from cspbench.spec import CorpusSpec


def complaint(folder: Path, **options: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        load("manifest", folder, folder, **options)
    return str(caught.value)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda file: file.unlink(), "no such audio file; restore it"),
        (lambda file: file.write_bytes(b""), "is empty"),
        (lambda file: file.write_bytes(b"RIFF and then nonsense"), "audio cannot be read"),
        (truncate, "is cut off: 0.44 s of 0.50 s are missing; copy it again"),
        (lambda file: tone(file, rate=8000), "sampled at 8000 Hz where the corpus has 16000 Hz; resample it"),
        (lambda file: tone(file, channels=2), "has 2 channels; name one as 'channel', from 0, or mix it down"),
        (lambda file: tone(file, seconds=0), "holds no samples"),
        (lambda file: tone(file, seconds=0.7), "lasts 0.70 s where 0.50 s is stated"),
    ],
)
def test_spoiled_audio(tmp_path: Path, spoil: Callable[[Path], object], expected: str) -> None:
    small_manifest(tmp_path)
    spoil(tmp_path / "c0.wav")
    message = complaint(tmp_path)
    assert f"{tmp_path}/manifest.jsonl:5: {tmp_path}/c0.wav: {expected}" in message


def test_small_differences_of_duration_are_rounding(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    tone(tmp_path / "c0.wav", seconds=0.55)
    assert load("manifest", tmp_path, tmp_path)


def test_audio_is_checked_only_if_asked(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    tone(tmp_path / "c0.wav", seconds=0.9)
    spec = CorpusSpec(name="manifest", path=str(tmp_path))
    assert load_corpus(spec, tmp_path, check_audio=False)


def test_a_changed_file_is_looked_at_again(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    load("manifest", tmp_path, tmp_path)
    tone(tmp_path / "c0.wav", seconds=0.9)
    assert "c0.wav: lasts 0.90 s" in complaint(tmp_path)


def test_empty_transcripts_and_repeated_ids(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    rows[1]["text"] = "  \t "
    rows[3]["id"] = "a0"
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    message = complaint(tmp_path)
    assert f"{tmp_path}/manifest.jsonl:2: empty transcript" in message
    assert f"{tmp_path}/manifest.jsonl:4: id 'a0' is already used at {tmp_path}/manifest.jsonl:1" in message


def test_empty_splits_and_shared_speakers(tmp_path: Path) -> None:
    rows = [r for r in small_manifest(tmp_path) if r["split"] != "test"]
    rows[0]["speaker"] = "x"
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    message = complaint(tmp_path)
    assert "test split: holds no utterances" in message
    assert "speaker 'x': occurs in several splits (1 in train, 2 in dev utterances)" in message
    write_manifest(tmp_path / "manifest.jsonl", [*rows, row("y0", "test")])
    assert load("manifest", tmp_path, tmp_path, speaker_disjoint=False).shared_speakers


def test_many_problems_make_one_short_message(tmp_path: Path) -> None:
    rows = [r | {"text": ""} for r in small_manifest(tmp_path)]
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    lines = complaint(tmp_path).splitlines()
    assert len(lines) == 12
    assert lines[-1].strip() == "and 3 more (cspbench data check lists them by kind)"


def test_fingerprint_follows_content_alone(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    first = load("manifest", tmp_path, tmp_path).fingerprint()
    spec = CorpusSpec(name="manifest", path=str(tmp_path), fingerprint=first)
    assert load_corpus(spec, tmp_path).fingerprint() == first
    (tmp_path / "spare.wav").write_bytes((tmp_path / "a0.wav").read_bytes())
    (tmp_path / "a1.wav").write_bytes((tmp_path / "a0.wav").read_bytes())  # same length, other samples
    with pytest.raises(CorpusError, match=f"has fingerprint .* where the trial was made for {first}"):
        load_corpus(spec, tmp_path)
    small_manifest(tmp_path)
    rows[0]["text"] = "other words"
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    assert load("manifest", tmp_path, tmp_path).fingerprint() != first


def test_unknown_corpora_and_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown corpus 'an5'; did you mean 'an4'"):
        load("an5", tmp_path, tmp_path)
    with pytest.raises(ConfigError) as caught:
        parse_options(CorpusSpec(name="an4", options={"dev_shar": 1, "seed": -1}))
    assert "corpus.options.dev_shar: unknown" in str(caught.value)
    assert "did you mean 'dev_share'" in str(caught.value)
    assert "corpus.options.seed: " in str(caught.value)


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'an4' needs the folder"):
        load("an4", None, tmp_path)
    with pytest.raises(CorpusError, match="no such file or folder"):
        load("an4", tmp_path / "none", tmp_path)
    with pytest.raises(ConfigError, match="'spoken_commands' makes its own audio"):
        load("spoken_commands", tmp_path, tmp_path)


def test_every_corpus_describes_itself() -> None:
    assert corpora.names() == [
        "an4",
        "fsdd",
        "huggingface",
        "kaldi",
        "lhotse",
        "librispeech",
        "manifest",
        "spoken_commands",
    ]
    for name in corpora.names():
        loader = corpora.get(name)
        assert len(loader.summary) > 20
        assert loader.Options()  # every option has a default
        assert ("SYNTHETIC" in loader.summary) == (name == "spoken_commands")
