"""Utterances and corpora: the values that loaders return."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cspbench.spec import content_id

if TYPE_CHECKING:
    from cspbench.corpora.problems import CorpusProblem

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Utterance:
    """One recording, or a segment of one, with its transcript.

    Attributes:
        id: unique within the corpus.
        audio: file readable by libsndfile.
        duration: seconds.
        speaker: empty where unknown.
        text: normalised transcript; empty where nothing is said.
        origin: ``file:line`` of the transcript, for error messages.
        offset: seconds into the file at which a segment begins; None where the file holds this utterance alone.
        channel: index of the channel it is on, from 0; None for a file of one channel.
        lang: language, as the manifest names it; empty where unknown.
    """

    id: str
    audio: Path
    duration: float
    speaker: str
    text: str
    split: Split
    origin: str
    offset: float | None = None
    channel: int | None = None
    lang: str = ""


@dataclass(frozen=True)
class Corpus:
    """Utterances of one sample rate (Hz).

    Attributes:
        name: of the loader that made it.
        sample_rate: Hz, of every file.
        utterances: all splits.
        synthetic: True if any audio was made by a machine.
        shared_speakers: True where the options let a speaker occur in several splits; otherwise none may.
        score_unseen: True where dev and test may hold characters that train lacks; their words count as errors.
        problems: what its loader could not read.
    """

    name: str
    sample_rate: int
    utterances: tuple[Utterance, ...]
    synthetic: bool = False
    shared_speakers: bool = False
    score_unseen: bool = False
    problems: tuple[CorpusProblem, ...] = ()

    def split(self, name: Split) -> list[Utterance]:
        """Utterances of one split, in corpus order."""
        return [u for u in self.utterances if u.split == name]

    def fingerprint(self) -> str:
        """Hash of what training and evaluation depend on; independent of where the files lie."""
        marks = file_marks(u.audio for u in self.utterances)
        rows = [
            [u.id, u.speaker, u.text, u.split, round(u.duration, 3), mark, *_place(u)]
            for u, mark in zip(self.utterances, marks, strict=True)
        ]
        return content_id("corpus", [self.sample_rate, rows])


def _place(utterance: Utterance) -> list[Any]:
    """The part of its file that an utterance is; nothing where it is all of it."""
    if utterance.offset is None and utterance.channel is None:
        return []
    return [None if utterance.offset is None else round(utterance.offset, 4), utterance.channel]


def file_marks(files: Iterable[Path]) -> list[tuple[int, int]]:
    """Size and checksum of `SAMPLE_BYTES` from the middle of each file.

    Equal sizes alone would not tell two noise levels of the same utterance apart; reading every byte of a corpus
    of hundreds of hours at every start would take minutes.
    """
    return [_mark(file) for file in files]


def _mark(file: Path) -> tuple[int, int]:
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, (size - SAMPLE_BYTES) // 2))
        return size, zlib.crc32(opened.read(SAMPLE_BYTES))
