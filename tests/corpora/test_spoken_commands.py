from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from support.corpus_trees import load

from cspbench.corpora import Corpus, statistics
from cspbench.corpora.commands import VARIANTS, sentences, voices
from cspbench.corpora.espeak import PACKAGE, Request, synthesise
from cspbench.corpora.spoken_commands import SpokenCommands, _plan
from cspbench.corpora.utterance import SPLITS
from cspbench.errors import ConfigError, CorpusError

SMALL = {"train": 36, "dev": 6, "test": 12}
needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="SYNTHESIS ABSENT: pip install 'cspbench[synthesis]'"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load("spoken_commands", None, tmp_path_factory.mktemp("cache"), **SMALL)


def test_sentences_and_voices_are_disjoint_at_full_size() -> None:
    plan = _plan(SpokenCommands.Options())
    texts = {split: {p.request.text for p in plan if p.split == split} for split in SPLITS}
    speakers = {split: {p.request.voice for p in plan if p.split == split} for split in SPLITS}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not texts[a] & texts[b]
        assert not speakers[a] & speakers[b]
        assert not set(VARIANTS[a]) & set(VARIANTS[b])  # not even with another accent
    assert len(sentences()) == 20 * 19 + 20 * 19 * 18
    assert len(texts["test"]) == 300
    assert {split: len(voices(split)) for split in SPLITS} == {"train": 36, "dev": 6, "test": 12}


def test_training_covers_every_word_that_is_tested() -> None:
    for seed in range(5):
        plan = _plan(SpokenCommands.Options(seed=seed))
        words = {split: {w for p in plan if p.split == split for w in p.request.text.split()} for split in SPLITS}
        assert words["dev"] | words["test"] <= words["train"]


@needs_espeak
def test_every_voice_speaks_differently(corpus: Corpus) -> None:
    assert corpus.synthetic
    assert all(row["synthetic"] for row in statistics(corpus))
    assert len({u.speaker for u in corpus.utterances}) == 54
    for u in corpus.utterances:
        samples, rate = soundfile.read(u.audio)
        assert rate == 16000
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
        assert np.abs(samples).max() < 1
        assert 0.5 < u.duration < 4


@needs_espeak
def test_the_same_to_the_byte_in_another_cache(corpus: Corpus, tmp_path: Path) -> None:
    again = load("spoken_commands", None, tmp_path, **SMALL)
    assert again.fingerprint() == corpus.fingerprint()
    for a, b in zip(corpus.utterances, again.utterances, strict=True):
        assert a.audio.read_bytes() == b.audio.read_bytes()


@needs_espeak
def test_noise_changes_the_fingerprint(corpus: Corpus, tmp_path: Path) -> None:
    noisy = load("spoken_commands", None, tmp_path, min_snr_db=0, max_snr_db=5, **SMALL)
    assert [u.text for u in noisy.utterances] == [u.text for u in corpus.utterances]
    assert noisy.fingerprint() != corpus.fingerprint()


@needs_espeak
def test_words_can_be_told_apart_by_their_length() -> None:
    say = [Request("en-us+m1", 50, 160, text) for text in ("lights", "turn on the kitchen lights", "lights")]
    (short, rate), (long, _), (again, _) = synthesise(say)
    assert rate == 22050
    assert len(long) > 2 * len(short) > rate / 2
    assert abs(len(again) - len(short)) < 0.1 * rate


@needs_espeak
@pytest.mark.parametrize("voice", ["en-gb", "tlh-kronos", "en-us+nobody", "en-us+../../phontab"])
def test_a_voice_that_does_not_exist_is_refused(voice: str) -> None:
    with pytest.raises(CorpusError, match="espeak-ng has no voice"):
        list(synthesise([Request(voice, 50, 160, "hello")]))


@needs_espeak
def test_a_caller_that_stops_early_leaves_no_process() -> None:
    others = psutil.Process().children()  # other tests' helpers in this process, such as a resource tracker
    spoken = synthesise([Request("en-us+m1", 50, 160, "turn on the kitchen lights")] * 200)
    next(spoken)
    started = [child for child in psutil.Process().children() if child not in others]
    spoken.close()  # would wait for ever for a worker that cannot write
    assert started
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


@needs_espeak
def test_damage_in_the_cache_names_the_folder_to_delete(tmp_path: Path) -> None:
    few = {"train": 2, "dev": 1, "test": 1}
    victim = load("spoken_commands", None, tmp_path, **few).utterances[0].audio
    victim.unlink()
    folder = victim.parents[2]
    with pytest.raises(CorpusError, match=rf"made by cspbench: delete {folder}, and it is made again"):
        load("spoken_commands", None, tmp_path, **few)


def test_without_espeak_the_remedy_and_the_licence_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cspbench.corpora.espeak.PACKAGE", "no_such_package")
    with pytest.raises(CorpusError, match=r"pip install 'cspbench\[synthesis\]'.*GPL-3"):
        load("spoken_commands", None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_snr_db may not exceed max_snr_db"):
        load("spoken_commands", None, tmp_path, min_snr_db=45)
