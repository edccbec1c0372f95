"""Problems of a corpus, collected so that a user mends all of them in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cspbench.corpora.audio import read_header
from cspbench.corpora.text import normalise
from cspbench.errors import CorpusError

MOST_SHOWN = 10


class CorpusProblem(NamedTuple):
    """One problem: its kind in two or three words, where it is, and what is wrong and what to do."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Problems:
    """A list of problems and the heading of the message that tells them."""

    def __init__(self, heading: str = "") -> None:
        self.heading = heading
        self.found: list[CorpusProblem] = []

    def add(self, where: object, what: str, kind: str = "line") -> None:
        """Note one problem: where it is, what is wrong and what to do, and its kind."""
        self.found.append(CorpusProblem(kind, str(where), what))

    def check(self) -> None:
        """Raise one CorpusError with the first problems and the count of the others; return if there are none."""
        if not self.found:
            return
        lines = [str(problem) for problem in self.found[:MOST_SHOWN]]
        if len(self.found) > MOST_SHOWN:
            lines.append(f"and {len(self.found) - MOST_SHOWN} more (cspbench data check lists them by kind)")
        raise CorpusError("\n  ".join([self.heading, *lines]))


def measured(audio: Path, origin: str, problems: Problems) -> float | None:
    """Seconds an audio file lasts; None, with a problem noted, where it cannot be read."""
    try:
        return read_header(audio).duration
    except CorpusError as error:
        problems.add(f"{origin}: {audio}", str(error), "audio")
        return None


def normalised(text: str, origin: str, problems: Problems) -> str | None:
    """A transcript in normal form; None, with a problem noted, where it holds what no text has."""
    try:
        return normalise(text)
    except CorpusError as error:
        problems.add(origin, str(error), "transcript")
        return None
