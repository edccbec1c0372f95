"""What a corpus is: a checked list of utterances in three splits, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from cspbench.hyper import Hyperparameters
from cspbench.registry import Registry
from cspbench.spec import CorpusSpec, content_id

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Utterance:
    """One recording and what was said.

    Attributes:
        id: unique within the corpus.
        audio: file readable by soundfile.
        duration: seconds.
        speaker: empty where unknown.
        text: normalised transcript.
        origin: ``file:line`` of the transcript, for error messages.
    """

    id: str
    audio: Path
    duration: float
    speaker: str
    text: str
    split: Split
    origin: str


@dataclass(frozen=True)
class Corpus:
    """Utterances of one sample rate (Hz). `synthetic` is True if any audio was made by a machine."""

    name: str
    sample_rate: int
    utterances: tuple[Utterance, ...]
    synthetic: bool = False

    def split(self, name: Split) -> list[Utterance]:
        """Utterances of one split, in corpus order."""
        return [u for u in self.utterances if u.split == name]

    def fingerprint(self) -> str:
        """Hash of what training and evaluation depend on; independent of where the files lie."""
        rows = [
            [u.id, u.speaker, u.text, u.split, u.audio.stat().st_size, round(u.duration, 3)] for u in self.utterances
        ]
        return content_id("corpus", [self.sample_rate, rows])


class CorpusLoader(ABC):
    """Turns files on disk into a `Corpus`. `Options` are the keys a sweep file may give under ``corpus.options``."""

    Options: ClassVar[type[Hyperparameters]] = Hyperparameters
    summary: ClassVar[str] = ""
    needs_path: ClassVar[bool] = True

    @abstractmethod
    def load(
        self, path: Path | None, options: Hyperparameters, cache: Path, progress: Callable[[str], None]
    ) -> Corpus:
        """Read (and where needed first make, under `cache`) the corpus.

        Args:
            path: where the audio lies; None if `needs_path` is False.
            options: an instance of `Options`.
            cache: folder for derived audio; reused when already filled.
            progress: called with one plain line now and then during long preparation.

        Raises:
            CorpusError: naming file, line and remedy.
        """


corpora: Registry[type[CorpusLoader]] = Registry("corpus", "cspbench.corpora")
register = corpora.register


def _silent(_: str) -> None:
    return None


def load_corpus(
    spec: CorpusSpec, cache: Path, progress: Callable[[str], None] = _silent, *, check_audio: bool = True
) -> Corpus:
    """Load the corpus a spec names, validated and with its fingerprint checked.

    Args:
        spec: name, path and options.
        cache: the store's corpora folder (`Store.corpora`).
        progress: receives plain lines during long preparation.
        check_audio: compare every file's header with the corpus (sample rate, duration, readability).

    Raises:
        ConfigError: unknown corpus or options.
        CorpusError: files that are missing, corrupt or mis-sampled, empty transcripts, an empty split, or a
            fingerprint other than the one the spec was resolved with.
    """
    raise NotImplementedError
