"""Decoding of a whole corpus: sample values, levels, and audio that occurs more than once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cspbench.corpora.audio import read_utterance
from cspbench.corpora.problems import CorpusProblem, Problems
from cspbench.corpora.utterance import Corpus, Split, Utterance
from cspbench.errors import CorpusError

CLIPPED_FRACTION = 1e-3
"""Samples at full scale from which a recording counts as clipped."""
LEVEL_GAP_DB = 10.0
"""Difference of median levels between splits that is noted."""
PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class Scan:
    """Decoded audio of one utterance, in numbers.

    Attributes:
        utterance: of the corpus.
        level: root mean square in dB of full scale; -inf for digital silence.
        clipped: fraction of samples at or beyond full scale.
        digest: hash of the samples, rounded to 16 bits, so that a copy in another lossless format has the same.
    """

    utterance: Utterance
    level: float
    clipped: float
    digest: bytes


def scan(corpus: Corpus, problems: Problems, progress: Callable[[str], None] = lambda _: None) -> list[Scan]:
    """Decode every utterance of a corpus once.

    Args:
        corpus: as its loader returned it.
        problems: takes the utterances that cannot be decoded.
        progress: called with one plain line now and then.

    Returns:
        One entry for each utterance that can be decoded, in corpus order.
    """
    found = []
    for number, utterance in enumerate(corpus.utterances, start=1):
        try:
            found.append(_measure(utterance, read_utterance(utterance)))
        except CorpusError as error:
            where, _, what = str(error).partition(f"{utterance.audio}: ")
            problems.add(f"{where}{utterance.audio}", what, "audio")
        if number % PROGRESS_EVERY == 0:
            progress(f"{corpus.name}: decoded {number} of {len(corpus.utterances)} utterances")
    return found


def _measure(utterance: Utterance, samples: np.ndarray) -> Scan:
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    whole = np.round(samples * 32768).clip(-32768, 32767).astype("<i2")
    clipped = float(np.mean(np.abs(samples) >= 32767 / 32768)) if len(samples) else 0.0
    level = 10 * float(np.log10(power)) if power else -float("inf")
    return Scan(utterance, level, clipped, hashlib.sha256(whole.tobytes()).digest())


def scan_problems(scans: list[Scan]) -> tuple[list[CorpusProblem], list[CorpusProblem]]:
    """Return the problems of decoded audio, and notes on what is unusual but usable."""
    problems, notes = Problems(), Problems()
    _check_repeated(scans, problems, notes)
    for one in scans:
        u = one.utterance
        where = f"{u.origin}: {u.audio}"
        if one.level == -float("inf") and u.text:
            problems.add(where, f"is digital silence, yet '{_shortened(u.text)}' is said in it", "silent audio")
        elif one.clipped > CLIPPED_FRACTION:
            notes.add(where, f"is clipped: {one.clipped:.1%} of its samples are at full scale", "clipped audio")
    _note_levels(scans, notes)
    return problems.found, notes.found


def _check_repeated(scans: list[Scan], problems: Problems, notes: Problems) -> None:
    by_content: dict[bytes, list[Utterance]] = defaultdict(list)
    for one in scans:
        if one.level > -float("inf"):
            by_content[one.digest].append(one.utterance)
    for first, *others in by_content.values():
        for u in others:
            where = f"{u.origin}: {u.audio}"
            if u.split != first.split:
                same_file = u.audio == first.audio and u.channel == first.channel  # the check of overlaps tells it
                if not same_file:
                    told = f"has the samples of {first.audio} ({first.origin}), in {u.split} and in {first.split}"
                    problems.add(where, f"{told}; keep audio in one split", "audio in several splits")
            elif u.text != first.text:
                told = f"has the samples of {first.audio} ({first.origin}), yet another transcript"
                problems.add(where, f"{told}: '{_shortened(u.text)}'; correct one", "audio with two transcripts")
            else:
                notes.add(where, f"has the samples of {first.audio} ({first.origin})", "repeated audio")


def median_level(scans: list[Scan], split: Split) -> float | None:
    """Median level of a split in dB of full scale, digital silence aside; None where there is none."""
    levels = [one.level for one in scans if one.utterance.split == split and one.level > -float("inf")]
    return float(np.median(levels)) if levels else None


def _note_levels(scans: list[Scan], notes: Problems) -> None:
    train = median_level(scans, "train")
    for split in ("dev", "test"):
        level = median_level(scans, split)
        if train is not None and level is not None and abs(level - train) > LEVEL_GAP_DB:
            notes.add(f"{split} split", f"has a median level of {level:.0f} dB, train of {train:.0f} dB", "level")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
