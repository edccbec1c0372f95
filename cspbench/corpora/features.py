"""Log-mel features: mel energies computed once by kaldi-native-fbank, kept on disk, mapped into memory.

A frame depends on nothing that comes after its window, so the streaming recogniser computes the very same numbers.
Three things make utterances alike. The *floor* is added to every energy, so that digital silence is a quiet background
and not a value that no recording has. The *reference level* makes features independent of loudness. The *flush* is
silence that follows every utterance, for the last labels of a recording that stops with the last sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import soxr

from cspbench.corpora.audio import read_utterance
from cspbench.corpora.base import SPLITS, Corpus, Split, Utterance
from cspbench.corpora.frames import ReferenceLevel, flush, frame_count
from cspbench.errors import ConfigError, CorpusError
from cspbench.spec import FeatureSpec, content_id
from cspbench.store import atomic_file, locked, write_json

FEATURES_VERSION = 2
SAMPLE_SCALE = 32768.0
"""Kaldi takes samples on the scale of 16-bit audio."""


def fbank_options(spec: FeatureSpec, sample_rate: int) -> knf.FbankOptions:
    """Kaldi filterbank options: no dither (determinism), whole windows only (streaming), up to Nyquist."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.frame_length_ms = spec.window_ms
    options.frame_opts.frame_shift_ms = spec.hop_ms
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = spec.mels
    options.use_log_fbank = False
    return options


def check_features(spec: FeatureSpec, sample_rate: int) -> None:
    """Raise ConfigError if features cannot be computed at a sample rate (Hz): better before any training."""
    try:
        knf.OnlineFbank(fbank_options(spec, sample_rate))
    except (ValueError, RuntimeError):  # it finds a filter without a frequency of the spectrum in it
        raise ConfigError(
            f"features: {spec.mels} mels are too many for windows of {spec.window_ms:g} ms at {sample_rate} Hz: some "
            "filters would hold no frequency of the spectrum; take fewer mels or a longer window_ms"
        ) from None


def mel_energies(samples: np.ndarray, spec: FeatureSpec, sample_rate: int) -> np.ndarray:
    """Mel energies of samples in [-1, 1]: (F, mels) float32, at Kaldi's 16-bit scale, one frame every `hop_ms`."""
    bank = knf.OnlineFbank(fbank_options(spec, sample_rate))
    bank.accept_waveform(sample_rate, (samples * SAMPLE_SCALE).tolist())
    bank.input_finished()
    frames = [bank.get_frame(i) for i in range(bank.num_frames_ready)]
    return np.stack(frames).astype(np.float32) if frames else np.zeros((0, spec.mels), dtype=np.float32)


def log_energies(energies: np.ndarray, floor: float | None) -> np.ndarray:
    """Natural logarithm of mel energies, any shape, float32.

    Args:
        energies: at Kaldi's 16-bit scale, not negative.
        floor: logarithm of the energy that is added to each; None cuts energies at the smallest one, as Kaldi does.
    """
    if floor is None:
        return np.log(np.maximum(energies, np.finfo(np.float32).eps))
    return np.log(energies + np.float32(math.exp(floor)))


def log_mel(samples: np.ndarray, spec: FeatureSpec, sample_rate: int) -> np.ndarray:
    """Log-mel features of samples in [-1, 1]: (F, mels) float32, one frame every `hop_ms`."""
    return features_of(mel_energies(samples, spec, sample_rate), spec)


def model_inputs(samples: np.ndarray, spec: FeatureSpec, sample_rate: int) -> np.ndarray:
    """Features of a whole utterance as the model takes them, flush included: (T, stack * mels).

    Args:
        samples: mono in [-1, 1], (N,).
        spec: the front end.
        sample_rate: Hz.
    """
    flushed = np.concatenate([samples, flush(spec, sample_rate)])
    return stacked_features(mel_energies(flushed, spec, sample_rate), spec)


@dataclass(frozen=True)
class FeatureSet:
    """Features of one split at one speed.

    Attributes:
        utterances: in corpus order.
        energies: mel energies (F, mels) of all utterances end to end, with the flush after each.
        offsets: the first frame of each utterance, and F: (N + 1,).
        recorded: frames of each utterance before its flush, (N,).
        spec: the front end.
    """

    utterances: Sequence[Utterance]
    energies: np.ndarray
    offsets: np.ndarray
    recorded: np.ndarray
    spec: FeatureSpec

    def __len__(self) -> int:
        return len(self.utterances)

    def lengths(self) -> np.ndarray:
        """Model steps of each utterance: whole groups of `stack` frames."""
        return np.diff(self.offsets) // self.spec.stack

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mel energies of one utterance: its recording, and its flush, both (F, mels)."""
        start, end = self.offsets[index], self.offsets[index + 1]
        middle = start + self.recorded[index]
        return self.energies[start:middle], self.energies[middle:end]

    def inputs(self, index: int) -> np.ndarray:
        """Features of one utterance as the model takes them: (T, stack * mels)."""
        return stacked_features(self.energies[self.offsets[index] : self.offsets[index + 1]], self.spec)


def features_of(energies: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Mel energies of a whole utterance -> features, both (F, mels)."""
    return ReferenceLevel(spec).relate(log_energies(energies, spec.floor))


def stacked_features(energies: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Mel energies (F, mels) -> features (F // stack, stack * mels); a rest of fewer than `stack` frames is dropped."""
    steps = len(energies) // spec.stack
    return features_of(energies[: steps * spec.stack], spec).reshape(steps, spec.stack * energies.shape[1])


def prepare_features(
    corpus: Corpus,
    spec: FeatureSpec,
    folder: Callable[[str], Path],
    speeds: Sequence[float] = (1.0,),
    progress: Callable[[str], None] = lambda _: None,
) -> dict[tuple[Split, float], FeatureSet]:
    """Compute what is not on disk yet and open the rest.

    Args:
        corpus: a validated corpus.
        spec: the features.
        folder: maps an id to a folder of the store (`Store.features`).
        speeds: speed perturbation factors for the training split; dev and test are taken as they are.
        progress: receives a line per split that has to be computed.

    Raises:
        CorpusError: audio that cannot be read or is shorter than one model step.
        ConfigError: features that cannot be computed at the corpus's sample rate.
    """
    check_features(spec, corpus.sample_rate)
    fingerprint = corpus.fingerprint()
    sets: dict[tuple[Split, float], FeatureSet] = {}
    for split in SPLITS:
        for speed in sorted({1.0, *speeds}) if split == "train" else [1.0]:
            key = [FEATURES_VERSION, fingerprint, spec.model_dump(mode="json"), split, speed]
            sets[split, speed] = _open_or_compute(
                corpus, spec, split, speed, folder(content_id("features", key)), progress
            )
    return sets


def _open_or_compute(
    corpus: Corpus, spec: FeatureSpec, split: Split, speed: float, folder: Path, progress: Callable[[str], None]
) -> FeatureSet:
    utterances = corpus.split(split)
    done = folder / "done.json"
    with locked(folder):
        if not done.is_file():
            progress(f"features: {corpus.name} {split} ({len(utterances)} utterances, speed {speed:g})")
            arrays, recorded = zip(*(_energies(u, spec, corpus.sample_rate, speed) for u in utterances), strict=True)
            _save(folder / "energies.npy", np.concatenate(arrays))
            _save(folder / "offsets.npy", np.cumsum([0] + [len(a) for a in arrays]))
            _save(folder / "recorded.npy", np.array(recorded))
            write_json(done, {"corpus": corpus.name, "split": split, "speed": speed, "utterances": len(utterances)})
    energies = np.load(folder / "energies.npy", mmap_mode="r", allow_pickle=False)
    offsets, recorded = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("offsets", "recorded"))
    return FeatureSet(utterances, energies, offsets, recorded, spec)


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_file(path) as file:
        np.save(file, array)


def _energies(utterance: Utterance, spec: FeatureSpec, sample_rate: int, speed: float) -> tuple[np.ndarray, int]:
    """Mel energies of an utterance and its flush, and the frames of the recording alone."""
    samples = read_utterance(utterance, sample_rate)
    if speed != 1.0:
        # Played back at the old rate, the resampled signal is `speed` times faster (Ko et al. 2015).
        samples = soxr.resample(samples, sample_rate * speed, sample_rate)
    recorded = frame_count(len(samples), spec, sample_rate)
    if recorded < spec.stack:
        raise CorpusError(
            f"{utterance.origin}: {utterance.audio} is too short for one step of the model; remove its entry"
        )
    flushed = np.concatenate([samples, flush(spec, sample_rate)])
    return mel_energies(flushed, spec, sample_rate), recorded


def train_statistics(features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """Mean and reciprocal standard deviation of each mel bin over the training set, both (mels,).

    The flush is left out: its constant frames, far below speech, would stretch the deviation, and a recogniser of short
    utterances would see hardly any difference between sounds. Such a model does not learn to align.
    """
    frames = np.concatenate([features_of(features.of(i)[0], features.spec) for i in range(len(features))])
    mean = frames.mean(axis=0, dtype=np.float64)
    deviation = frames.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), (1.0 / np.maximum(deviation, 1e-3)).astype(np.float32)
