"""What must hold of a corpus before any training starts, told in one message."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from cspbench.corpora.audio import DURATION_TOLERANCE, read_header
from cspbench.corpora.utterance import SPLITS, Corpus, Utterance
from cspbench.errors import CorpusError

MOST_SHOWN = 10


class Problems:
    """Collects what is wrong, so that a user mends a corpus in one pass rather than one file at a time."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.found: list[str] = []

    def add(self, where: object, what: str) -> None:
        """Note one problem: where it is, what is wrong and what to do."""
        self.found.append(f"{where}: {what}")

    def check(self) -> None:
        """Raise one CorpusError with the first problems and the count of the others; return if there are none."""
        if not self.found:
            return
        lines = self.found[:MOST_SHOWN]
        if len(self.found) > MOST_SHOWN:
            lines.append(f"and {len(self.found) - MOST_SHOWN} more")
        raise CorpusError("\n  ".join([self.heading, *lines]))


def measured(audio: Path, origin: str, problems: Problems) -> float | None:
    """Seconds an audio file lasts; None, with a problem noted, where it cannot be read."""
    try:
        return read_header(audio).duration
    except CorpusError as error:
        problems.add(f"{origin}: {audio}", str(error))
        return None


def check_corpus(corpus: Corpus, *, audio: bool = True, made_in: Path | None = None) -> None:
    """Check a whole corpus.

    Args:
        corpus: as its loader returned it.
        audio: also compare every file's header (sample rate, channels, duration) with the corpus.
        made_in: folder of audio we made, which the user need not mend: deleting it is enough.

    Raises:
        CorpusError: every problem found (the first ten in full), each with file, line and remedy.
    """
    remedy = f" (made by cspbench: delete {made_in}, and it is made again)" if made_in else ""
    problems = Problems(f"corpus '{corpus.name}' cannot be used{remedy}:")
    _check_splits(corpus, problems)
    _check_ids(corpus, problems)
    _check_speakers(corpus, problems)
    for utterance in corpus.utterances:
        if not utterance.text:
            problems.add(utterance.origin, "empty transcript; write what is said or remove the line")
        if audio:
            _check_audio(utterance, corpus.sample_rate, problems)
    problems.check()


def _check_splits(corpus: Corpus, problems: Problems) -> None:
    for name in SPLITS:
        if not corpus.split(name):
            problems.add(f"{name} split", f"holds no utterances; check where the corpus names its {name} data")


def _check_ids(corpus: Corpus, problems: Problems) -> None:
    first: dict[str, str] = {}
    for u in corpus.utterances:
        if u.id in first:
            problems.add(u.origin, f"id '{u.id}' is already used at {first[u.id]}; remove or rename one")
        first.setdefault(u.id, u.origin)


def _check_speakers(corpus: Corpus, problems: Problems) -> None:
    if corpus.shared_speakers:
        return
    for speaker, splits in speaker_splits(corpus).items():
        if len(splits) > 1:
            counts = ", ".join(f"{splits[name]} in {name}" for name in SPLITS if name in splits)
            problems.add(
                f"speaker '{speaker}'", f"occurs in several splits ({counts} utterances); keep each speaker in one"
            )


def speaker_splits(corpus: Corpus) -> dict[str, Counter[str]]:
    """Known speaker -> number of utterances in each split they occur in."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for u in corpus.utterances:
        if u.speaker:
            found[u.speaker][u.split] += 1
    return dict(found)


def _check_audio(utterance: Utterance, sample_rate: int, problems: Problems) -> None:
    where = f"{utterance.origin}: {utterance.audio}"
    try:
        header = read_header(utterance.audio)
    except CorpusError as error:
        problems.add(where, str(error))
        return
    if header.sample_rate != sample_rate:
        problems.add(where, f"sampled at {header.sample_rate} Hz where the corpus has {sample_rate} Hz; resample it")
    if header.channels != 1:
        problems.add(where, f"has {header.channels} channels; mix it down to one")
    if header.duration <= 0:
        problems.add(where, "holds no samples; record it again or remove its line")
    elif abs(header.duration - utterance.duration) > DURATION_TOLERANCE:
        problems.add(
            where, f"lasts {header.duration:.2f} s where {utterance.duration:.2f} s is stated; correct the duration"
        )
