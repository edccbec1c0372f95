"""Log-mel features: computed once by kaldi-native-fbank, kept on disk, mapped into memory.

A feature frame never looks past its own window, so the streaming recogniser computes the very same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import soxr

from cspbench.corpora.audio import read_utterance
from cspbench.corpora.base import SPLITS, Corpus, Split, Utterance
from cspbench.errors import CorpusError
from cspbench.spec import FeatureSpec, content_id
from cspbench.store import locked, write_json

FEATURES_VERSION = 1
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
    return options


def log_mel(samples: np.ndarray, spec: FeatureSpec, sample_rate: int) -> np.ndarray:
    """Log-mel energies of samples in [-1, 1]: (F, mels) float32, one frame every `hop_ms`."""
    bank = knf.OnlineFbank(fbank_options(spec, sample_rate))
    bank.accept_waveform(sample_rate, (samples * SAMPLE_SCALE).tolist())
    bank.input_finished()
    frames = [bank.get_frame(i) for i in range(bank.num_frames_ready)]
    return np.stack(frames).astype(np.float32) if frames else np.zeros((0, spec.mels), dtype=np.float32)


@dataclass(frozen=True)
class FeatureSet:
    """Features of one split at one speed: `frames` (F, mels) of all utterances end to end, cut at `offsets`."""

    utterances: Sequence[Utterance]
    frames: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.utterances)

    def lengths(self, stack: int) -> np.ndarray:
        """Model steps of each utterance: whole groups of `stack` frames."""
        return np.diff(self.offsets) // stack

    def stacked(self, index: int, stack: int) -> np.ndarray:
        """Features of one utterance as the model takes them: (T, stack * mels)."""
        start = self.offsets[index]
        steps = (self.offsets[index + 1] - start) // stack
        return self.frames[start : start + steps * stack].reshape(steps, -1)


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
    """
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
            arrays = [_features(u, spec, corpus.sample_rate, speed) for u in utterances]
            np.save(folder / "frames.npy", np.concatenate(arrays))
            np.save(folder / "offsets.npy", np.cumsum([0] + [len(a) for a in arrays]))
            write_json(done, {"corpus": corpus.name, "split": split, "speed": speed, "utterances": len(utterances)})
    frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
    return FeatureSet(utterances, frames, np.load(folder / "offsets.npy", allow_pickle=False))


def _features(utterance: Utterance, spec: FeatureSpec, sample_rate: int, speed: float) -> np.ndarray:
    samples = read_utterance(utterance, sample_rate)
    if speed != 1.0:
        # Played back at the old rate, the resampled signal is `speed` times faster (Ko et al. 2015).
        samples = soxr.resample(samples, sample_rate * speed, sample_rate)
    features = log_mel(samples, spec, sample_rate)
    if len(features) < spec.stack:
        raise CorpusError(
            f"{utterance.origin}: {utterance.audio} is too short for one step of the model; remove its entry"
        )
    return features


def train_statistics(features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """Mean and reciprocal standard deviation of each mel bin over the training set, both (mels,)."""
    mean = features.frames.mean(axis=0, dtype=np.float64)
    deviation = features.frames.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), (1.0 / np.maximum(deviation, 1e-3)).astype(np.float32)


__all__ = ["FeatureSet", "fbank_options", "log_mel", "prepare_features", "train_statistics"]
