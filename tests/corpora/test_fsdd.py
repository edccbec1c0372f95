from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.corpus_trees import load, tone

from cspbench.corpora import Corpus, statistics
from cspbench.corpora.fsdd import FSDD, SAMPLE_RATE, WORDS, _divide, _strings, _takes
from cspbench.errors import ConfigError, CorpusError

SMALL = {"train": 40, "dev": 12, "test": 18}


@pytest.fixture(scope="module")
def corpus(fsdd_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load("fsdd", fsdd_path, tmp_path_factory.mktemp("cache"), **SMALL)


def test_counts_and_texts(corpus: Corpus) -> None:
    assert {split: len(corpus.split(split)) for split in SMALL} == SMALL
    for u in corpus.utterances:
        words = u.text.split()
        assert 2 <= len(words) <= 5
        assert set(words) <= set(WORDS)


def test_default_holds_about_57_minutes(fsdd_path: Path) -> None:
    clips = list(_strings(_takes(fsdd_path), FSDD.Options()))
    assert Counter(clip.split for clip in clips) == {"train": 1850, "dev": 180, "test": 81}
    assert 55 < sum(len(clip.samples) for clip in clips if clip.split == "train") / SAMPLE_RATE / 60 < 59


def test_statistics_say_that_speakers_are_shared(corpus: Corpus) -> None:
    assert corpus.shared_speakers
    assert [row["shared_speakers"] for row in statistics(corpus)] == [6, 6, 6]


def test_no_recording_is_used_in_two_splits(fsdd_path: Path) -> None:
    divided = _divide(_takes(fsdd_path), FSDD.Options())
    assert {take.number for take in divided["test"]} == set(range(5))
    assert {take.number for take in divided["dev"]} == set(range(5, 10))
    assert {take.number for take in divided["train"]} == set(range(10, 50))


def test_disjoint_speakers(fsdd_path: Path, tmp_path: Path) -> None:
    corpus = load("fsdd", fsdd_path, tmp_path, speaker_disjoint=True, **SMALL)
    speakers = {split: {u.speaker for u in corpus.split(split)} for split in SMALL}
    assert [len(speakers[split]) for split in ("train", "dev", "test")] == [4, 1, 1]
    assert len(set.union(*speakers.values())) == 6
    assert all(row["shared_speakers"] == 0 for row in statistics(corpus))


def test_joined_audio_is_the_recordings_themselves(fsdd_path: Path, tmp_path: Path) -> None:
    options = FSDD.Options(train=3, dev=1, test=1, min_digits=2, max_digits=2, min_pause=0.1, max_pause=0.1)
    clip = next(iter(_strings(_takes(fsdd_path), options)))
    recordings = [soundfile.read(take.file, dtype="int16")[0] for take in _takes(fsdd_path)]
    first = next(r for r in recordings if len(r) < len(clip.samples) and np.array_equal(r, clip.samples[: len(r)]))
    second = clip.samples[len(first) + 800 :]
    assert not clip.samples[len(first) : len(first) + 800].any()
    assert any(np.array_equal(r, second) for r in recordings)


def test_recordings_can_be_brought_to_one_level(fsdd_path: Path) -> None:
    takes = _takes(fsdd_path)
    options = FSDD.Options(train=6, dev=6, test=6, min_digits=1, max_digits=1, level=-30.0)
    as_recorded = list(_strings(takes, FSDD.Options(**options.model_dump() | {"level": None})))

    def levels(clips: list) -> np.ndarray:
        return np.array([20 * np.log10(np.sqrt(np.mean((clip.samples / 32768.0) ** 2))) for clip in clips])

    assert np.ptp(levels(as_recorded)) > 10
    np.testing.assert_allclose(levels(list(_strings(takes, options))), -30.0, atol=0.2)
    loud = list(_strings(takes, FSDD.Options(**options.model_dump() | {"level": 0.0})))
    assert all(np.abs(clip.samples.astype(int)).max() == 32767 for clip in loud)  # no further than the peak allows


def test_every_recording_is_used_equally_often_and_once_in_test(fsdd_path: Path) -> None:
    options = FSDD.Options(train=1, dev=600, test=600, min_digits=1, max_digits=1)
    clips = list(_strings(_takes(fsdd_path), options))
    for split, strings in (("dev", 600), ("test", 300)):
        samples = [clip.samples.tobytes() for clip in clips if clip.split == split]
        assert (len(samples), len(set(samples))) == (strings, 300)


@pytest.mark.parametrize(("low", "high", "words"), [(2, 5, 300), (1, 20, 300), (3, 3, 288), (20, 20, 240)])
def test_test_strings_hold_each_recording_at_most_once(fsdd_path: Path, low: int, high: int, words: int) -> None:
    options = FSDD.Options(train=1, dev=1, test=300, min_digits=low, max_digits=high)
    texts = [clip.text.split() for clip in _strings(_takes(fsdd_path), options) if clip.split == "test"]
    assert sum(map(len, texts)) == words
    assert all(low <= len(text) <= high for text in texts)
    if words == 300:
        assert set(Counter(word for text in texts for word in text).values()) == {30}


def test_the_cache_is_reused_and_follows_the_options(fsdd_path: Path, tmp_path: Path) -> None:
    first = load("fsdd", fsdd_path, tmp_path, **SMALL)
    times = [u.audio.stat().st_mtime_ns for u in first.utterances]
    again = load("fsdd", fsdd_path, tmp_path, **SMALL)
    assert again == first
    assert [u.audio.stat().st_mtime_ns for u in again.utterances] == times
    other = load("fsdd", fsdd_path, tmp_path, seed=1, **SMALL)
    assert other.fingerprint() != first.fingerprint()
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_preparation_is_done_again(fsdd_path: Path, tmp_path: Path, corpus: Corpus) -> None:
    folder = corpus.utterances[0].audio.parents[2].name
    half = tmp_path / folder / "partial" / "train"
    half.mkdir(parents=True)
    (half / "train-00000-george.wav").write_bytes(b"half of")
    assert load("fsdd", fsdd_path, tmp_path, **SMALL).fingerprint() == corpus.fingerprint()
    assert not (tmp_path / folder / "partial").exists()


def test_processes_that_start_together_share_the_work(fsdd_path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cspbench.corpora import load_corpus;"
        "from cspbench.spec import CorpusSpec;"
        f"spec = CorpusSpec(name='fsdd', path={str(fsdd_path)!r}, options={SMALL!r});"
        f"print(load_corpus(spec, Path({str(tmp_path)!r}), lambda line: print('made')).fingerprint())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate()[0].split() for process in started]
    assert sorted(len(lines) for lines in said) == [1, 2]  # one made it
    assert said[0][-1] == said[1][-1]


def test_problems_of_the_recordings_are_named(fsdd_path: Path, tmp_path: Path) -> None:
    for digit in range(3):
        for take in range(12):
            tone(tmp_path / "recordings" / f"{digit}_ada_{take}.wav", rate=8000)
    with pytest.raises(CorpusError, match="needs three speakers, found only ada"):
        load("fsdd", tmp_path, tmp_path / "cache", speaker_disjoint=True)
    tone(tmp_path / "recordings" / "0_ada_3.wav", rate=16000)
    (tmp_path / "recordings" / "1_ada_4.wav").write_bytes(b"not audio")
    with pytest.raises(CorpusError) as caught:
        load("fsdd", tmp_path, tmp_path / "cache")
    assert re.search(r"0_ada_3.wav: expected mono audio at 8000 Hz, found 16000 Hz", str(caught.value))
    assert re.search(r"1_ada_4.wav: audio cannot be read", str(caught.value))


def test_bad_options_and_folders(fsdd_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_digits and min_pause may not exceed"):
        load("fsdd", fsdd_path, tmp_path, min_digits=6)
    with pytest.raises(CorpusError, match="no recordings named like"):
        load("fsdd", tmp_path, tmp_path)


def test_speakers_take_turns(corpus: Corpus) -> None:
    speakers = [u.speaker for u in corpus.split("train")]
    assert all(a != b for a, b in pairwise(speakers))
