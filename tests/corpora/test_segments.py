"""Segments of long recordings, channels, noise without words: the forms in which people keep speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.corpus_trees import RATE, load, row, small_manifest, tone, write_manifest

from cspbench.corpora import statistics
from cspbench.corpora.audio import read_audio, read_utterance
from cspbench.errors import CorpusError


def complaint(folder: Path, rows: list[Any], **options: Any) -> str:
    write_manifest(folder / "manifest.jsonl", rows)
    with pytest.raises(CorpusError) as caught:
        load("manifest", folder, folder / "cache", **options)
    return str(caught.value)


def long_rows(folder: Path) -> list[dict[str, Any]]:
    """Three recordings of 10 s, one a split, with three segments each."""
    rows = []
    for split in ("train", "dev", "test"):
        tone(folder / f"{split}.wav", seconds=10)
        rows += [
            {"audio": f"{split}.wav", "offset": o, "duration": 2.0, "text": f"word {o}", "split": split, "lang": "en"}
            for o in (0, 2.5, 8.0)
        ]
    write_manifest(folder / "manifest.jsonl", list(rows))
    return rows


def test_segments_are_utterances_of_their_own(tmp_path: Path) -> None:
    long_rows(tmp_path)
    corpus = load("manifest", tmp_path, tmp_path / "cache")
    utterance = corpus.split("train")[1]
    assert (utterance.id, utterance.offset, utterance.duration) == ("train@2.500+2.000", 2.5, 2.0)
    whole, _ = read_audio(tmp_path / "train.wav")
    np.testing.assert_array_equal(read_utterance(utterance, RATE), whole[40_000:72_000])
    found = statistics(corpus)[0]
    assert (found["utterances"], found["recordings"], found["segments"], found["languages"]) == (3, 1, 3, "en")


def test_an_offset_of_zero_over_the_whole_file_is_the_file(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    plain = load("manifest", tmp_path, tmp_path / "cache")
    write_manifest(tmp_path / "manifest.jsonl", [r | {"offset": 0} for r in rows])
    assert load("manifest", tmp_path, tmp_path / "cache").fingerprint() == plain.fingerprint()


def test_the_fingerprint_tells_segments_and_channels(tmp_path: Path) -> None:
    rows = long_rows(tmp_path)
    first = load("manifest", tmp_path, tmp_path / "cache").fingerprint()
    named = [r | {"id": str(i)} for i, r in enumerate(rows)]
    marks = {first}
    for changed in (named, [named[0], named[1] | {"offset": 2.6}, *named[2:]], [r | {"channel": 0} for r in named]):
        write_manifest(tmp_path / "manifest.jsonl", list(changed))
        marks.add(load("manifest", tmp_path, tmp_path / "cache").fingerprint())
    assert len(marks) == 4


def test_an_offset_without_duration_reaches_to_the_end(tmp_path: Path) -> None:
    rows = long_rows(tmp_path)
    rows[2] = {k: v for k, v in rows[2].items() if k != "duration"} | {"offset": 7.5}
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    assert load("manifest", tmp_path, tmp_path / "cache").split("train")[2].duration == 2.5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"offset": 9.5}, "lasts 10.00 s where the segment ends at 11.50 s"),
        ({"offset": -1}, "offset -1 is not a number of seconds from 0"),
        ({"offset": "1"}, "offset '1' is not a number of seconds"),
        ({"offset": float("inf")}, "offset inf is not a number of seconds"),
        ({"offset": True}, "offset True is not a number"),
        ({"offset": 20, "duration": None}, "offset 20 lies behind the end of the audio, at 10.00 s"),
        ({"offset": 0, "duration": 0}, "duration 0 is not a number of seconds above 0"),
        ({"channel": 1}, "has no channel 1; its last is 0"),
        ({"channel": -1}, "channel -1 is not the index of a channel, from 0"),
        ({"channel": "left"}, "channel 'left' is not the index"),
        ({"offset": None}, "lasts 10.00 s where 2.00 s is stated; correct the duration, or state an offset"),
    ],
)
def test_segments_that_cannot_be(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    rows = long_rows(tmp_path)
    rows[1] = {key: value for key, value in (rows[1] | change).items() if value is not None}
    message = complaint(tmp_path, list(rows))
    assert f"{tmp_path}/manifest.jsonl:2: " in message
    assert told in message


def test_audio_that_two_splits_share_is_named(tmp_path: Path) -> None:
    rows = long_rows(tmp_path)
    rows[8] |= {"audio": "train.wav", "offset": 3.0, "duration": 6.0}
    message = complaint(tmp_path, list(rows))
    assert ":9: " in message
    assert "1.50 s of it are in test and, by " in message  # 3.0 to 4.5
    assert "manifest.jsonl:2, in train" in message
    assert "1.00 s of it are in train and, by " in message  # 8.0 to 9.0


def test_a_channel_of_a_stereo_call(tmp_path: Path) -> None:
    rows = []
    for split in ("train", "dev", "test"):
        sides = np.stack([np.full(RATE, 0.25), np.full(RATE, -0.5)], axis=1)
        soundfile.write(tmp_path / f"{split}.wav", sides, RATE)
        rows += [{"audio": f"{split}.wav", "channel": c, "text": f"side {c}", "split": split} for c in (0, 1)]
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    corpus = load("manifest", tmp_path, tmp_path / "cache")
    assert [u.id for u in corpus.split("test")] == ["test#0", "test#1"]
    assert [float(read_utterance(u)[0]) for u in corpus.split("test")] == [0.25, -0.5]
    no_channel = [{k: v for k, v in r.items() if k != "channel"} for r in rows[::2]]
    assert "has 2 channels; name one as 'channel'" in complaint(tmp_path, list(no_channel))


def test_noise_without_words_may_be_tested_but_not_trained(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    rows[-1]["text"] = ""
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    corpus = load("manifest", tmp_path, tmp_path / "cache")
    assert [row["empty_texts"] for row in statistics(corpus)] == [0, 0, 1]
    rows[0]["text"] = ""
    assert "manifest.jsonl:1: empty transcript in train" in complaint(tmp_path, list(rows))
    rows[0]["text"], rows[-2]["text"] = "some words", " "
    assert "test split: holds no words" in complaint(tmp_path, list(rows))


def test_more_text_than_its_audio_can_hold_is_named(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    tone(tmp_path / "c0.wav", seconds=0.1)
    rows[4] |= {"duration": 0.1, "text": "a line of forty-four letters in a tenth of a s"}
    assert "manifest.jsonl:5: 46 characters in 0.10 s cannot have been said" in complaint(tmp_path, list(rows))


def test_most_files_decide_the_sample_rate(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    tone(tmp_path / "a0.wav", rate=8000)
    message = complaint(tmp_path, list(rows))
    assert len(message.splitlines()) == 2
    assert "a0.wav: sampled at 8000 Hz where the corpus has 16000 Hz" in message


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    lines: list[Any] = [r | {"audio": f"missing{i}.wav"} if i < 3 else r for i, r in enumerate(rows)]
    lines[3] = "{oops"
    lines[4] = {key: value for key, value in lines[4].items() if key != "split"}
    lines[5] = lines[5] | {"text": ""}
    message = complaint(tmp_path, lines)
    for number, told in {
        1: "missing0.wav: no such audio file",
        2: "missing1.wav: no such audio file",
        3: "missing2.wav: no such audio file",
        4: "not JSON",
        5: "no field 'split' (one of train, dev, test); write it, or keep one file a split",
        6: "empty transcript",
    }.items():
        assert f"manifest.jsonl:{number}: " in message
        assert told in message


def test_names_must_be_names(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    for change, told in (
        ({"speaker": ["a"]}, "speaker ['a'] is neither a string nor a number"),
        ({"id": "a\nb"}, r"id 'a\nb' holds U+000A; remove it"),
    ):
        assert told in complaint(tmp_path, [rows[0] | change, *rows[1:]])
    nan = [row("a0") | {"speaker": float("nan")}, *rows[1:]]
    write_manifest(tmp_path / "manifest.jsonl", nan)
    assert load("manifest", tmp_path, tmp_path / "cache").utterances[0].speaker == ""


def test_a_field_that_occurs_twice_is_named(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    twice = '{"audio": "a0.wav", "text": "one", "text": "two", "split": "train"}'
    assert "manifest.jsonl:1: field 'text' occurs twice; keep one" in complaint(tmp_path, [twice, *rows[1:]])
