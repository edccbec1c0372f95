from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.corpus_trees import load, row, small_manifest, tone, write_manifest

from cspbench.corpora import statistics
from cspbench.errors import CorpusError


def test_one_file_with_a_split_field(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    corpus = load("manifest", tmp_path / "manifest.jsonl", tmp_path / "cache")
    assert corpus == load("manifest", tmp_path, tmp_path / "cache")
    assert [len(corpus.split(s)) for s in ("train", "dev", "test")] == [10, 2, 2]
    assert corpus.utterances[0].id == "a0"
    assert corpus.utterances[0].origin == f"{tmp_path}/manifest.jsonl:1"
    assert corpus.sample_rate == 16000


def test_nemo_fields_in_a_file_a_split(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        rows = []
        for i in range(2):
            tone(tmp_path / "far" / f"{split}{i}.wav")
            audio = str(tmp_path / "far" / f"{split}{i}.wav")
            rows.append({"audio_filepath": audio, "duration": 0.5, "text": "Hello   YOU", "offset": 0, "lang": "en"})
        write_manifest(tmp_path / "m" / f"{split}.jsonl", list(rows))
    corpus = load("manifest", tmp_path / "m", tmp_path / "cache")
    assert [u.id for u in corpus.split("test")] == ["test0", "test1"]
    assert {u.text for u in corpus.utterances} == {"hello you"}
    kept = load("manifest", tmp_path / "m", tmp_path / "cache", lowercase=False)
    assert {u.text for u in kept.utterances} == {"Hello YOU"}


def test_options_name_the_files(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    for split, name in (("train", "a.json"), ("dev", "b.json"), ("test", "c.json")):
        write_manifest(tmp_path / name, [{**r, "split": None} for r in rows if r["split"] == split])
    corpus = load("manifest", tmp_path, tmp_path, train="a.json", dev="b.json", test="c.json")
    assert [len(corpus.split(s)) for s in ("train", "dev", "test")] == [10, 2, 2]


def test_dev_is_taken_from_train_by_speaker(tmp_path: Path) -> None:
    rows = [r for r in small_manifest(tmp_path) if r["split"] != "dev"]
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    corpus = load("manifest", tmp_path, tmp_path, dev_share=0.4)
    assert len(corpus.split("dev")) == 4
    assert len({u.speaker for u in corpus.split("dev")}) == 2
    assert all(r["shared_speakers"] == 0 for r in statistics(corpus))
    turned = write_manifest(tmp_path / "turned.jsonl", list(reversed(rows)))
    assert {u.id for u in load("manifest", turned, tmp_path, dev_share=0.4).split("dev")} == {
        u.id for u in corpus.split("dev")
    }


def test_dev_is_taken_by_utterance_where_speakers_are_unknown(tmp_path: Path) -> None:
    rows = [r for r in small_manifest(tmp_path) if r["split"] != "dev"]
    write_manifest(tmp_path / "manifest.jsonl", [{**r, "speaker": None} for r in rows])
    assert len(load("manifest", tmp_path, tmp_path, dev_share=0.3).split("dev")) == 3


def test_one_speaker_needs_the_option(tmp_path: Path) -> None:
    rows = [r | {"speaker": 0} for r in small_manifest(tmp_path) if r["split"] != "dev"]
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    with pytest.raises(CorpusError, match="it holds speaker 0 alone; supply a dev split"):
        load("manifest", tmp_path, tmp_path)
    corpus = load("manifest", tmp_path, tmp_path, speaker_disjoint=False)
    assert [r["shared_speakers"] for r in statistics(corpus)] == [1, 1, 1]


def test_durations_may_be_left_out(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    write_manifest(tmp_path / "manifest.jsonl", [{k: v for k, v in r.items() if k != "duration"} for r in rows])
    assert {u.duration for u in load("manifest", tmp_path, tmp_path).utterances} == {0.5}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{oops", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        (row("a0", audio=None), "no field 'audio' or 'audio_filepath' that holds a string; found the fields duration"),
        (row("a0", audio=""), "audio path '' names no file"),
        (row("a0", audio="/"), "audio path '/' names no file"),
        ("[" * 100_000, "not JSON"),
        (row("a0", audio="../a0.wav"), "climbs out of the manifest's folder; write it as an absolute path"),
        (row("a0", audio="b/../../a0.wav"), "climbs out"),
        (row("a0", text=None), "no field 'text'"),
        (row("a0", text=7), "no field 'text'"),
        (row("a0", offset=1.5), "lasts 0.50 s where the segment ends at 2.00 s; correct offset and duration"),
        (row("a0", duration=-1), "duration -1 is not a number of seconds"),
        (row("a0", duration=float("nan")), "duration nan is not a number"),
        (row("a0", duration=10**400), "is not a number of seconds"),
        (row("a0", duration="0.5"), "duration '0.5' is not a number"),
        (row("a0", duration=True), "duration True is not a number"),
        (row("a0", "training"), "split 'training' is none of train, dev, test"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path: Path, line: object, complaint: str) -> None:
    small_manifest(tmp_path)
    text = (tmp_path / "manifest.jsonl").read_text().splitlines()
    write_manifest(tmp_path / "manifest.jsonl", [*text[:2], "", line, *text[3:]])  # type: ignore[list-item]
    with pytest.raises(CorpusError) as caught:
        load("manifest", tmp_path, tmp_path)
    assert f"{tmp_path}/manifest.jsonl:4: " in str(caught.value)
    assert complaint in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["audio", "text", "duration", "speaker", "id", "split", "offset"]), json_values))
def test_whatever_a_line_holds_the_error_is_for_people(changes: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        rows = [row(name, split) for name, split in (("a0", "train"), ("b0", "dev"), ("c0", "test"))]
        file = write_manifest(Path(folder) / "manifest.jsonl", [*rows[1:], rows[0] | changes])
        with pytest.raises(CorpusError):  # no audio there
            load("manifest", file, Path(folder))


def test_absolute_paths_may_lie_anywhere_and_ids_survive_a_move(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path / "audio")
    elsewhere = [r | {"audio": str(tmp_path / "audio" / r["audio"])} for r in rows]
    write_manifest(tmp_path / "lists" / "manifest.jsonl", list(elsewhere))
    here = load("manifest", tmp_path / "audio", tmp_path)
    there = load("manifest", tmp_path / "lists", tmp_path)
    assert here.fingerprint() == there.fingerprint()
    shutil.copytree(tmp_path / "audio", tmp_path / "moved")
    assert load("manifest", tmp_path / "moved", tmp_path).fingerprint() == here.fingerprint()


def test_unusual_but_right_files(tmp_path: Path) -> None:
    rows = small_manifest(tmp_path)
    rows[0]["text"] = "one\u2028line"  # a line break to Python, not to JSON
    lines = [line for r in rows for line in (r, "")]
    file = write_manifest(tmp_path / "manifest.jsonl", lines)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\\u2028", "\u2028".encode()).replace(b"\n", b"\r\n"))
    assert load("manifest", tmp_path, tmp_path).utterances[0].text == "one line"


def test_folders_without_manifests(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds neither manifest.jsonl nor train.jsonl"):
        load("manifest", tmp_path, tmp_path)
    with pytest.raises(CorpusError, match=r"none.jsonl: cannot be read"):
        load("manifest", tmp_path, tmp_path, train="none.jsonl")
    empty = write_manifest(tmp_path / "empty.jsonl", [])
    with pytest.raises(CorpusError, match="holds no utterances"):
        load("manifest", empty, tmp_path)
    with pytest.raises(CorpusError, match="is one manifest"):
        load("manifest", empty, tmp_path, test="x.jsonl")


def test_machine_made_speech_is_declared(tmp_path: Path) -> None:
    small_manifest(tmp_path)
    assert not load("manifest", tmp_path, tmp_path).synthetic
    assert load("manifest", tmp_path, tmp_path, synthetic=True).synthetic
