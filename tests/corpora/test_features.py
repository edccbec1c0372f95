"""Features: what is computed, that a stream computes the same, that speed perturbation and caching work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cspbench.corpora.audio import read_audio
from cspbench.corpora.base import Corpus, Utterance
from cspbench.corpora.batches import collate, epoch_order, evaluation_batches
from cspbench.corpora.features import (
    FeatureSet,
    log_mel,
    mel_energies,
    model_inputs,
    prepare_features,
    train_statistics,
)
from cspbench.corpora.frames import frame_count
from cspbench.errors import CorpusError
from cspbench.spec import FeatureSpec
from cspbench.store import Store

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    utterances = []
    for i, split in enumerate(["train", "train", "train", "dev", "test"]):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, tone(300 + 200 * i, 0.5 + 0.1 * i), RATE)
        utterances.append(Utterance(f"u{i}", path, 0.5 + 0.1 * i, f"s{i}", "a b", split, f"m.jsonl:{i + 1}"))
    return Corpus("tones", RATE, tuple(utterances))


def test_a_tone_is_loudest_in_its_own_mel_bin() -> None:
    spec = FeatureSpec(mels=40)
    bins = [int(log_mel(tone(f), spec, RATE).mean(axis=0).argmax()) for f in (300, 800, 2000, 5000)]
    assert bins == sorted(bins)
    assert len(set(bins)) == 4


def test_one_frame_each_hop_and_whole_windows_only() -> None:
    assert log_mel(tone(500), FeatureSpec(), RATE).shape == (98, 40)  # (1000 - 25) / 10 + 1
    assert log_mel(tone(500, 0.01), FeatureSpec(), RATE).shape == (0, 40)


def test_features_are_kept_and_read_back(corpus: Corpus, tmp_path: Path) -> None:
    store, said = Store(tmp_path / "runs"), []
    first = prepare_features(corpus, FeatureSpec(), store.features, (0.9, 1.1), said.append)
    again = prepare_features(corpus, FeatureSpec(), store.features, (0.9, 1.1), said.append)
    assert set(first) == {("train", 0.9), ("train", 1.0), ("train", 1.1), ("dev", 1.0), ("test", 1.0)}
    assert len(said) == 5
    for key, features in first.items():
        np.testing.assert_array_equal(features.energies, again[key].energies)
    samples, rate = read_audio(corpus.utterances[3].audio)
    flushed = np.concatenate([samples, np.zeros(round(0.3 * rate), np.float32)])
    inputs = first["dev", 1.0].inputs(0)
    np.testing.assert_array_equal(inputs, model_inputs(samples, FeatureSpec(), rate))
    np.testing.assert_array_equal(inputs[1, :40], log_mel(flushed, FeatureSpec(), rate)[3])
    recording, flush = first["dev", 1.0].of(0)
    np.testing.assert_array_equal(recording, mel_energies(samples, FeatureSpec(), rate))
    assert len(flush) == 30


def test_the_floor_makes_digital_silence_a_quiet_background() -> None:
    without, floor = (FeatureSpec(floor=floor, level_fall=None) for floor in (None, 4.0))
    np.testing.assert_allclose(log_mel(np.zeros(RATE, np.float32), floor, RATE), 4.0, rtol=1e-6)
    assert (log_mel(np.zeros(RATE, np.float32), without, RATE) < -15.9).all()
    plain, floored = (log_mel(tone(500), spec, RATE) for spec in (without, floor))
    np.testing.assert_allclose(np.exp(floored), np.exp(plain) + np.exp(4.0), rtol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("samples", [0, 1, 399, 400, 401, 560, 4801])
def test_frames_are_counted_as_they_are_computed(samples: int, rate: int) -> None:
    spec = FeatureSpec()
    assert frame_count(samples, spec, rate) == len(log_mel(np.zeros(samples, np.float32), spec, rate))


def test_speed_perturbation_shortens_and_raises_the_pitch(corpus: Corpus, tmp_path: Path) -> None:
    sets = prepare_features(corpus, FeatureSpec(flush_ms=0), Store(tmp_path / "runs").features, (0.5, 2.0))
    slow, normal, fast = (sets["train", s] for s in (0.5, 1.0, 2.0))
    assert fast.recorded[2] < normal.recorded[2] / 1.9 < slow.recorded[2] / 3.6
    peaks = [int(s.of(0)[0].mean(axis=0).argmax()) for s in (slow, normal, fast)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[2]


def test_statistics_normalise_the_training_set(corpus: Corpus, tmp_path: Path) -> None:
    train = prepare_features(corpus, FeatureSpec(), Store(tmp_path / "runs").features)["train", 1.0]
    mean, scale = train_statistics(train)
    recordings = [read_audio(u.audio)[0] for u in train.utterances]
    frames = np.concatenate([log_mel(samples, FeatureSpec(), RATE) for samples in recordings])
    normalised = (frames - mean) * scale
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize(("seconds", "rate", "message"), [(0.03, RATE, "too short"), (1.0, 8000, "8000 Hz")])
def test_unusable_audio_is_named(corpus: Corpus, tmp_path: Path, seconds: float, rate: int, message: str) -> None:
    soundfile.write(corpus.utterances[1].audio, tone(400, seconds), rate)
    with pytest.raises(CorpusError, match=rf"m\.jsonl:2: .*{message}"):
        prepare_features(corpus, FeatureSpec(), Store(tmp_path / "runs").features)


def some_features(lengths: list[int]) -> FeatureSet:
    utterances = [Utterance(f"u{i}", Path("x"), 1.0, "s", "a", "train", "") for i in range(len(lengths))]
    offsets = np.cumsum([0, *lengths])
    energies = np.exp(np.arange(offsets[-1] * 2, dtype=np.float32) / 8).reshape(-1, 2)
    spec = FeatureSpec.model_construct(mels=2, stack=3, floor=None, level_fall=None)
    return FeatureSet(utterances, energies, offsets, np.array(lengths), spec)


def test_collate_stacks_and_pads() -> None:
    batch = collate(some_features([7, 4]), [[1, 2, 3], [4]], [0, 1])
    assert batch.features.shape == (2, 2, 6)
    assert batch.frames.tolist() == [2, 1]
    torch.testing.assert_close(batch.features[1, 0], torch.arange(14, 20) / 8)
    assert batch.features[1, 1].abs().sum() == 0
    assert batch.targets.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch.labels.tolist() == [3, 1]


def test_an_epoch_holds_every_utterance_once_in_a_seeded_order() -> None:
    lengths = np.random.default_rng(0).integers(5, 50, 100)
    epochs = {(seed, epoch): epoch_order(lengths, 8, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    for batches in epochs.values():
        assert sorted(i for b in batches for i in b) == list(range(100))
        assert len(batches) == 13
    assert epochs[0, 0] == epoch_order(lengths, 8, 0, 0)
    assert len({str(b) for b in epochs.values()}) == 4


def test_batches_hold_utterances_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 50, 640)
    spread = np.mean([np.ptp(lengths[b]) for b in epoch_order(lengths, 8, 0, 0)])
    assert spread < np.ptp(lengths) / 3


def test_evaluation_visits_everything_once() -> None:
    features = some_features([9, 30, 3, 12, 6])
    batches = list(evaluation_batches(features, [[1]] * 5, 2))
    assert [b.indices for b in batches] == [[1, 3], [0, 4], [2]]


def test_the_fingerprint_follows_the_content_not_the_place(corpus: Corpus, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    utterances = []
    for u in corpus.utterances:
        (moved / u.audio.name).write_bytes(u.audio.read_bytes())
        utterances.append(replace(u, audio=moved / u.audio.name))
    assert Corpus("tones", RATE, tuple(utterances)).fingerprint() == corpus.fingerprint()
    changed = (replace(utterances[0], text="other"), *utterances[1:])
    assert Corpus("tones", RATE, changed).fingerprint() != corpus.fingerprint()
