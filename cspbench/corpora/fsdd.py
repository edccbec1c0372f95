"""Free Spoken Digit Dataset: single digits of six speakers at 8 kHz, joined into digit strings of one speaker."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from cspbench.corpora.audio import read_audio, read_header
from cspbench.corpora.base import SPLITS, Corpus, CorpusLoader, Notify, Split, register
from cspbench.corpora.carve import ranked
from cspbench.corpora.derived import Clip, derived
from cspbench.corpora.problems import Problems
from cspbench.corpora.utterance import file_marks
from cspbench.errors import CorpusError
from cspbench.hyper import Hyperparameters

SAMPLE_RATE = 8000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)\.wav")
TEST_TAKES = range(5)  # published: takes 0-4 of each digit and speaker are the test set
DEV_TAKES = range(5, 10)
RECIPE = 2  # raise when the same options come to give other audio


class Take(NamedTuple):
    """One recording of one digit."""

    file: Path
    digit: int
    speaker: str
    number: int


@register("fsdd")
class FSDD(CorpusLoader):
    """Seeded digit strings. By default the published split holds: no recording is in two splits."""

    summary = "FSDD: spoken digit strings of six speakers, 8 kHz, joined from real recordings of single digits"

    class Options(Hyperparameters):
        """Number and length of the strings, pauses, level, and the division of speakers."""

        train: int = Field(1850, ge=1, le=1_000_000, description="strings; the default is about 57 minutes")
        dev: int = Field(180, ge=1, le=1_000_000, description="strings")
        test: int = Field(
            300, ge=1, le=1_000_000, description="strings at most: each recording is in one of them, or in none"
        )
        min_digits: int = Field(2, ge=1, le=20)
        max_digits: int = Field(5, ge=1, le=20)
        min_pause: float = Field(0.05, ge=0, le=2, description="seconds between digits, at least")
        max_pause: float = Field(0.2, ge=0, le=2, description="seconds between digits, at most")
        level: float | None = Field(
            None, ge=-60, le=0, description="dB below full scale that every recording is brought to; none: as recorded"
        )
        speaker_disjoint: bool = Field(False, description="4 speakers train, 1 dev, 1 test; else all speak in all")
        seed: int = Field(0, ge=0)

        @model_validator(mode="after")
        def _ordered(self) -> FSDD.Options:
            if self.min_digits > self.max_digits or self.min_pause > self.max_pause:
                raise ValueError("min_digits and min_pause may not exceed max_digits and max_pause")
            return self

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Join the recordings of ``recordings/`` into strings under `cache`, unless they lie there."""
        assert path is not None
        takes = _takes(path)
        source = [[take.file.name, *mark] for take, mark in zip(takes, file_marks(t.file for t in takes), strict=True)]
        identity = {"recipe": RECIPE, "source": source, "options": options.model_dump(mode="json")}

        def make() -> Iterator[Clip]:
            progress(f"fsdd: joining {len(takes)} recordings into {options.train + options.dev + options.test} strings")
            return _strings(takes, options)

        utterances = derived(cache, "fsdd", SAMPLE_RATE, identity, make)
        return Corpus("fsdd", SAMPLE_RATE, tuple(utterances), shared_speakers=not options.speaker_disjoint)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A folder with recordings named like ``7_jackson_32.wav``, or one with ``recordings/``."""
        folder = path / "recordings" if (path / "recordings").is_dir() else path
        return folder.is_dir() and any(NAME.fullmatch(file.name) for file in folder.iterdir())


def _takes(path: Path) -> list[Take]:
    folder = path / "recordings" if (path / "recordings").is_dir() else path
    takes = [
        Take(file, int(match["digit"]), match["speaker"], int(match["take"]))
        for file in sorted(folder.glob("*.wav"))
        if (match := NAME.fullmatch(file.name))
    ]
    if not takes:
        raise CorpusError(f"{folder}: no recordings named like 7_jackson_32.wav; corpus.path must name a copy of FSDD")
    return takes


def _divide(takes: list[Take], options: Any) -> dict[Split, list[Take]]:
    if options.speaker_disjoint:
        speakers_found = ranked((take.speaker for take in takes), options.seed)
        if len(speakers_found) < 3:
            raise CorpusError(f"fsdd: speaker_disjoint needs three speakers, found only {', '.join(speakers_found)}")
        dev, test, *train = speakers_found
        speakers: dict[Split, list[str]] = {"train": train, "dev": [dev], "test": [test]}
        return {split: [take for take in takes if take.speaker in speakers[split]] for split in SPLITS}
    held = {**dict.fromkeys(TEST_TAKES, "test"), **dict.fromkeys(DEV_TAKES, "dev")}
    return {split: [take for take in takes if held.get(take.number, "train") == split] for split in SPLITS}


def _strings(takes: list[Take], options: Any) -> Iterator[Clip]:
    samples = {file: _levelled(audio, options.level) for file, audio in _read(takes).items()}
    for split, held in _divide(takes, options).items():
        rng = Random(f"{options.seed}/{split}")  # noqa: S311
        by_speaker: dict[str, list[Take]] = defaultdict(list)
        for take in held:
            by_speaker[take.speaker].append(take)
        if not by_speaker:
            raise CorpusError(f"fsdd: no recordings for {split}; the published set has takes 0-49 of six speakers")
        dealt = [_deal(by_speaker[speaker], options, rng, once=split == "test") for speaker in sorted(by_speaker)]
        for index, chosen in enumerate(islice(_in_turn(dealt), getattr(options, split))):
            speaker = chosen[0].speaker
            audio = _join([samples[take.file] for take in chosen], options, rng)
            text = " ".join(WORDS[take.digit] for take in chosen)
            yield Clip(f"{split}-{index:05d}-{speaker}", audio, speaker, text, split)


def _deal(takes: list[Take], options: Any, rng: Random, *, once: bool) -> Iterator[list[Take]]:
    """Deal the takes of a speaker into strings.

    Once: test words are then independent recordings, and the usual statistics hold for them. At most
    ``min_digits - 1`` takes that fill no string are left out. Otherwise: again and again, each equally often.
    """
    deck, left = _deck(takes, rng), len(takes)
    low, high = options.min_digits, options.max_digits
    while True:
        count = rng.randint(low, high)
        if once:
            # The last string must not be too short.
            fitting = [n for n in range(low, high + 1) if n == left or n <= left - low] or [
                n for n in [low] if n <= left
            ]
            if not fitting:
                return
            count = min(fitting, key=lambda n: (abs(n - count), n))
            left -= count
        yield [next(deck) for _ in range(count)]


def _in_turn(iterators: list[Iterator[list[Take]]]) -> Iterator[list[Take]]:
    """The first of each iterator, then the second of each, until all are exhausted."""
    while iterators:
        alive = []
        for iterator in iterators:
            if (item := next(iterator, None)) is not None:
                alive.append(iterator)
                yield item
        iterators = alive


def _deck(takes: list[Take], rng: Random) -> Iterator[Take]:
    """All takes in random order, again and again."""
    while True:
        yield from rng.sample(takes, len(takes))


def _levelled(audio: np.ndarray, level: float | None) -> np.ndarray:
    """Bring a recording to a root mean square `level`, as far as its peak allows: speakers differ by 20 dB."""
    if level is None or not audio.any():
        return audio
    loud = audio.astype(np.float64)
    gain = min(32768 * 10 ** (level / 20) / np.sqrt(np.mean(loud**2)), 32767 / np.abs(loud).max())
    return np.round(loud * gain).astype(np.int16)


def _join(digits: list[np.ndarray], options: Any, rng: Random) -> np.ndarray:
    parts = [digits[0]]
    for digit in digits[1:]:
        pause = rng.uniform(options.min_pause, options.max_pause)
        parts += [np.zeros(round(pause * SAMPLE_RATE), dtype=np.int16), digit]
    return np.concatenate(parts)


def _read(takes: list[Take]) -> dict[Path, np.ndarray]:
    """Read all recordings, (time,) int16 each."""
    problems = Problems("FSDD cannot be read:")
    samples = {}
    for take in takes:
        try:
            header, (audio, _) = read_header(take.file), read_audio(take.file)
        except CorpusError as error:
            problems.add(take.file, str(error), "audio")
            continue
        if header[:2] != (SAMPLE_RATE, 1) or not len(audio):
            found = f"{header.sample_rate} Hz, {header.channels} channels, {len(audio)} samples"
            problems.add(take.file, f"expected mono audio at {SAMPLE_RATE} Hz, found {found}", "audio")
        samples[take.file] = np.round(audio * 32768).clip(-32768, 32767).astype(np.int16)
    problems.check()
    return samples
