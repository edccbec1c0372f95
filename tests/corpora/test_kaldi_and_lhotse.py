"""Kaldi data folders and Lhotse cuts are read as the same corpus as a manifest of the same speech."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.corpus_trees import RATE, load

from cspbench.corpora import Corpus
from cspbench.corpora.audio import read_utterance
from cspbench.corpora.inspection import detect
from cspbench.errors import CorpusError

SPLITS = ("train", "dev", "test")
TEXTS = ("hello", "good day")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stereo call of 4 s a split."""
    (tmp_path / "calls").mkdir()
    for index, split in enumerate(SPLITS):
        noise = 0.1 * np.random.default_rng(index).standard_normal((4 * RATE, 2))
        soundfile.write(tmp_path / "calls" / f"{split}.flac", noise, RATE)
    return tmp_path


def kaldi(folder: Path) -> None:
    for split in SPLITS:
        data = folder / split
        data.mkdir()
        (data / "wav.scp").write_text(f"{split}-a calls/{split}.flac\n{split}-b calls/{split}.flac\n")
        (data / "reco2file_and_channel").write_text(f"{split}-a call A\n{split}-b call B\n")
        (data / "segments").write_text(f"{split}-1 {split}-a 0.5 1.5\n{split}-2 {split}-b 2.0 -1\n")
        (data / "text").write_text("".join(f"{split}-{i + 1} {text.upper()}\n" for i, text in enumerate(TEXTS)))
        (data / "utt2spk").write_text(f"{split}-1 {split}1\n{split}-2 {split}2\n")


def cut(split: str, number: int, **changes: Any) -> dict[str, Any]:
    start, duration = ((0.5, 1.0), (2.0, 2.0))[number]
    source = {"type": "file", "channels": [0, 1], "source": f"calls/{split}.flac"}
    supervision = {
        "id": f"{split}-{number + 1}", "start": 0.0, "duration": duration, "text": TEXTS[number],
        "speaker": f"{split}{number + 1}", "channel": number, "language": "English",
    }  # fmt: skip
    whole = {"id": "c", "start": start, "duration": duration, "channel": number, "supervisions": [supervision]}
    return whole | {"recording": {"id": split, "sources": [source]}, "type": "MonoCut"} | changes


def lhotse(folder: Path) -> None:
    for split in SPLITS:
        lines = "".join(json.dumps(cut(split, number)) + "\n" for number in (0, 1))
        (folder / f"calls_cuts_{split}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))


def described(corpus: Corpus) -> list[tuple[object, ...]]:
    return [(u.id, u.split, u.offset, u.duration, u.channel, u.speaker, u.text) for u in corpus.utterances]


@pytest.mark.parametrize(("name", "write"), [("kaldi", kaldi), ("lhotse", lhotse)])
def test_segments_and_channels_are_read(folder: Path, name: str, write: Any) -> None:
    write(folder)
    assert detect(folder) == name
    corpus = load(name, folder, folder / "cache")
    assert described(corpus)[:2] == [
        ("train-1", "train", 0.5, 1.0, 0, "train1", "hello"),
        ("train-2", "train", 2.0, 2.0, 1, "train2", "good day"),
    ]
    samples = soundfile.read(folder / "calls" / "train.flac", dtype="float32")[0]
    np.testing.assert_array_equal(read_utterance(corpus.utterances[1], RATE), samples[2 * RATE :, 1])
    assert {u.lang for u in corpus.utterances} == {"English" if name == "lhotse" else ""}


def test_both_give_one_fingerprint(folder: Path) -> None:
    kaldi(folder)
    lhotse(folder)
    assert load("kaldi", folder, folder).fingerprint() == load("lhotse", folder, folder).fingerprint()


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("wav.scp", "train-a sph2pipe x.sph |", "wav.scp:1: 'train-a' is made by a command, which is not run"),
        ("wav.scp", "train-a calls.ark:17", "wav.scp:1: 'train-a' names no audio file"),
        ("segments", "train-1 train-a 1.5 1.5", "segments:1: a segment from 1.5 s to 1.5 s holds nothing"),
        ("segments", "train-1 train-a", "segments:1: not of the form"),
        ("segments", "train-1 train-c 0 1", "recording 'train-c' is not listed in wav.scp"),
        ("text", "train-3 who", "text:1: 'train-3' is not listed in segments"),
        ("reco2file_and_channel", "train-a call C", "channel 'C' is none of A, B, 1, 2"),
    ],
)
def test_lines_of_kaldi_that_cannot_be_used(folder: Path, file: str, line: str, told: str) -> None:
    kaldi(folder)
    lines = (folder / "train" / file).read_text().splitlines()
    (folder / "train" / file).write_text("\n".join([line, *lines[1:]]) + "\n")
    with pytest.raises(CorpusError) as caught:
        load("kaldi", folder, folder / "cache")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"type": "MixedCut"}, "cuts of type 'MixedCut' are not read"),
        ({"recording": None}, "the cut has no recording"),
        ({"supervisions": None}, "no field 'supervisions'"),
        (
            {"recording": {"sources": [{"type": "command", "channels": [0], "source": "rm"}]}},
            "of type 'command' is not read",
        ),
        ({"recording": {"sources": []}}, "no source with channel 0"),
        ({"recording": {"transforms": [{}]}}, "transformed"),
        ({"start": "1"}, "start '1' is not a number of seconds"),
    ],
)
def test_cuts_that_cannot_be_used(folder: Path, change: dict[str, Any], told: str) -> None:
    lhotse(folder)
    (folder / "calls_cuts_train.jsonl.gz").unlink()
    lines = [cut("train", 0, **change), cut("train", 1)]
    (folder / "cuts_train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CorpusError, match=r"cuts_train.jsonl:1: ") as caught:
        load("lhotse", folder, folder / "cache")
    assert told in str(caught.value)


def test_a_damaged_archive_is_named(folder: Path) -> None:
    lhotse(folder)
    (folder / "calls_cuts_train.jsonl.gz").write_bytes(b"\x1f\x8b and no more")
    with pytest.raises(CorpusError, match=r"calls_cuts_train.jsonl.gz: cannot be read"):
        load("lhotse", folder, folder / "cache")
