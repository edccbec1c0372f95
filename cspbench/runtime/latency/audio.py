"""Audio to stream: a folder of recordings, a corpus, or noise in place of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from cspbench.corpora.audio import read_audio, read_header, read_utterance, recordings
from cspbench.corpora.base import Utterance
from cspbench.errors import CorpusError

Samples = NDArray[np.float32]
NOISE_SECONDS = 3.0


@dataclass(frozen=True)
class Audio:
    """Utterances at the recogniser's rate, (n,) in [-1, 1] each, and where they come from in words."""

    utterances: list[Samples]
    origin: str


def from_folder(folder: Path, sample_rate: int, most: int) -> Audio:
    """The first recordings of a folder, by name, of any rate and any format that soundfile reads.

    Raises:
        CorpusError: there are none.
    """
    files = recordings(folder)
    if not files:
        raise CorpusError(f"{folder} holds no recording: put wav or flac files there, or name a --corpus")
    return Audio([_at_rate(*read_audio(file), sample_rate) for file in files[:most]], str(folder))


def from_utterances(utterances: Sequence[Utterance], sample_rate: int, most: int, origin: str) -> Audio:
    """The first utterances of a corpus."""
    chosen = utterances[:most]
    decoded = [(read_utterance(u), read_header(u.audio).sample_rate) for u in chosen]
    return Audio([_at_rate(samples, rate, sample_rate) for samples, rate in decoded], origin)


def noise(sample_rate: int, most: int) -> Audio:
    """Noise in bursts of a syllable's length. What is recognised in it means nothing; the work is that of speech."""
    generator = np.random.default_rng(0)
    time = np.arange(round(NOISE_SECONDS * sample_rate)) / sample_rate
    bursts = 0.05 * np.maximum(0.0, np.sin(2 * np.pi * 4 * time))
    made = [(generator.standard_normal(len(time)) * bursts).astype(np.float32) for _ in range(most)]
    return Audio(made, "noise, for want of speech: labels and times to the first of them mean nothing")


def _at_rate(samples: Samples, rate: int, wanted: int) -> Samples:
    return samples if rate == wanted else soxr.resample(samples, rate, wanted).astype(np.float32)
