from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus_trees import an4_rows, libri_tree, load

from cspbench.errors import CorpusError

FOLDERS = {"train-clean-100": 3, "train-other-500": 1, "dev-clean": 1, "test-clean": 2}


@pytest.fixture
def tree(an4_path: Path, tmp_path: Path) -> Path:
    return libri_tree(an4_path, tmp_path / "LibriSpeech", FOLDERS)


def test_published_layout(tree: Path, an4_path: Path, tmp_path: Path) -> None:
    corpus = load("librispeech", tree, tmp_path)
    assert {u.speaker for u in corpus.split("train")} == {"100", "101", "102"}
    assert {u.speaker for u in corpus.split("test")} == {"105", "106"}
    assert {u.text for u in corpus.utterances} <= {r["text"] for r in an4_rows(an4_path)}  # lower case
    first = corpus.utterances[0]
    assert first.id == "100-7000-0000"
    assert first.origin == f"{tree}/train-clean-100/100/7000/100-7000.trans.txt:1"
    assert load("librispeech", tree.parent, tmp_path) == corpus


def test_several_folders_make_one_split(tree: Path, tmp_path: Path) -> None:
    corpus = load("librispeech", tree, tmp_path, train=["train-clean-100", "train-other-500"])
    assert {u.speaker for u in corpus.split("train")} == {"100", "101", "102", "103"}


def test_a_folder_used_twice_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="id '105-7000-0000' is already used"):
        load("librispeech", tree, tmp_path, dev=["test-clean"])


def test_missing_folders_say_what_is_there(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"dev-other: no such folder; .* dev-clean, test-clean, train-clean-100"):
        load("librispeech", tree, tmp_path, dev=["dev-other"])
    with pytest.raises(CorpusError, match="leads out of"):
        load("librispeech", tree, tmp_path, dev=["../LibriSpeech/dev-clean"])


def test_audio_and_transcripts_must_match(tree: Path, tmp_path: Path) -> None:
    chapter = tree / "dev-clean" / "104" / "7000"
    (chapter / "104-7000-0000.flac").rename(chapter / "104-7000-0009.flac")
    with pytest.raises(CorpusError) as caught:
        load("librispeech", tree, tmp_path)
    assert "104-7000.trans.txt:1: " in str(caught.value)
    assert "no such audio file" in str(caught.value)
    assert "has no line for 104-7000-0009.flac" in str(caught.value)


def test_a_cut_off_flac_is_found(tree: Path, tmp_path: Path) -> None:
    audio = tree / "test-clean" / "105" / "7000" / "105-7000-0000.flac"
    audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    with pytest.raises(CorpusError, match=r"txt:1: .*105-7000-0000.flac: is cut off: 0.73 s of 1.50 s are missing"):
        load("librispeech", tree, tmp_path)
