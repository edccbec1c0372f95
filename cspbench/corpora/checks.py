"""Checks of a corpus before any training starts; every problem is listed in one message."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from cspbench.corpora.audio import DURATION_TOLERANCE, read_header
from cspbench.corpora.problems import CorpusProblem, Problems
from cspbench.corpora.utterance import SPLITS, Corpus, Utterance
from cspbench.errors import CorpusError

MAX_CHARACTERS_PER_SECOND = 50.0
"""Fast speech has 25; text far beyond that belongs to other audio."""


def check_corpus(corpus: Corpus, *, audio: bool = True, made_in: Path | None = None) -> None:
    """Raise one CorpusError that lists the problems of a corpus, each with file, line and remedy.

    Args:
        corpus: as its loader returned it.
        audio: see `corpus_problems`.
        made_in: folder of audio that cspbench made. The user need not mend it: deleting it is enough.

    Raises:
        CorpusError: the first ten problems, and the number of the others.
    """
    remedy = f" (made by cspbench: delete {made_in}, and it is made again)" if made_in else ""
    problems = Problems(f"corpus '{corpus.name}' cannot be used{remedy}:")
    problems.found += corpus_problems(corpus, audio=audio)
    problems.check()


def corpus_problems(corpus: Corpus, *, audio: bool = True) -> list[CorpusProblem]:
    """Return all problems of a corpus: those its loader met, then those of splits, ids, speakers, texts and audio.

    Args:
        corpus: as its loader returned it.
        audio: also compare every file's header (sample rate, channels, duration) with the corpus.
    """
    problems = Problems()
    problems.found += corpus.problems
    _check_splits(corpus, problems)
    _check_ids(corpus, problems)
    _check_speakers(corpus, problems)
    _check_overlaps(corpus, problems)
    for utterance in corpus.utterances:
        _check_text(utterance, problems)
        if audio:
            _check_header(utterance, corpus.sample_rate, problems)
    return problems.found


def _check_splits(corpus: Corpus, problems: Problems) -> None:
    for name in SPLITS:
        utterances = corpus.split(name)
        if not utterances:
            problems.add(
                f"{name} split", f"holds no utterances; check where the corpus names its {name} data", "empty split"
            )
        elif not any(u.text for u in utterances):
            problems.add(f"{name} split", "holds no words; write what is said in it", "empty split")


def _check_ids(corpus: Corpus, problems: Problems) -> None:
    first: dict[str, str] = {}
    for u in corpus.utterances:
        if u.id in first:
            problems.add(u.origin, f"id '{u.id}' is already used at {first[u.id]}; remove or rename one", "repeated id")
        first.setdefault(u.id, u.origin)


def _check_speakers(corpus: Corpus, problems: Problems) -> None:
    if corpus.shared_speakers:
        return
    for speaker, splits in speaker_splits(corpus).items():
        if len(splits) > 1:
            counts = ", ".join(f"{splits[name]} in {name}" for name in SPLITS if name in splits)
            problems.add(
                f"speaker '{speaker}'",
                f"occurs in several splits ({counts} utterances); keep each speaker in one",
                "speaker in several splits",
            )


def speaker_splits(corpus: Corpus) -> dict[str, Counter[str]]:
    """Known speaker -> number of utterances in each split they occur in."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for u in corpus.utterances:
        if u.speaker:
            found[u.speaker][u.split] += 1
    return dict(found)


def _check_overlaps(corpus: Corpus, problems: Problems) -> None:
    """Find audio that two splits share: one file in both, or segments that overlap."""
    by_track: dict[tuple[Path, int | None], list[Utterance]] = defaultdict(list)
    for u in corpus.utterances:
        by_track[u.audio, u.channel].append(u)
    for track in by_track.values():
        latest: dict[str, Utterance] = {}  # split -> the utterance that ends last, of those seen so far
        for u in sorted(track, key=lambda u: (u.offset or 0.0, u.origin)):
            for split, other in latest.items():
                overlap = min(_end(other), _end(u)) - (u.offset or 0.0)
                if split != u.split and overlap > DURATION_TOLERANCE:
                    problems.add(
                        f"{u.origin}: {u.audio}",
                        f"{overlap:.2f} s of it are in {u.split} and, by {other.origin}, in {split}; keep audio in one"
                        " split",
                        "audio in several splits",
                    )
            if u.split not in latest or _end(u) > _end(latest[u.split]):
                latest[u.split] = u


def _end(utterance: Utterance) -> float:
    return (utterance.offset or 0.0) + utterance.duration


def _check_text(utterance: Utterance, problems: Problems) -> None:
    if not utterance.text and utterance.split == "train":
        problems.add(
            utterance.origin,
            "empty transcript in train; write what is said or remove the line (dev and test may hold noise alone)",
            "transcript",
        )
    elif len(utterance.text) > MAX_CHARACTERS_PER_SECOND * max(utterance.duration, 1e-3):
        problems.add(
            utterance.origin,
            f"{len(utterance.text)} characters in {utterance.duration:.2f} s cannot have been said; correct the"
            " transcript, the duration or the audio",
            "transcript",
        )


def _check_header(utterance: Utterance, sample_rate: int, problems: Problems) -> None:
    where = f"{utterance.origin}: {utterance.audio}"
    try:
        header = read_header(utterance.audio)
    except CorpusError as error:
        problems.add(where, str(error), "audio")
        return
    if header.sample_rate != sample_rate:
        problems.add(
            where,
            f"sampled at {header.sample_rate} Hz where the corpus has {sample_rate} Hz; resample it",
            "sample rate",
        )
    if utterance.channel is None and header.channels != 1:
        problems.add(
            where, f"has {header.channels} channels; name one as 'channel', from 0, or mix it down to one", "channel"
        )
    elif utterance.channel is not None and utterance.channel >= header.channels:
        problems.add(where, f"has no channel {utterance.channel}; its last is {header.channels - 1}", "channel")
    if header.duration <= 0:
        problems.add(where, "holds no samples; record it again or remove its line", "audio")
    elif utterance.offset is None and abs(header.duration - utterance.duration) > DURATION_TOLERANCE:
        problems.add(
            where,
            f"lasts {header.duration:.2f} s where {utterance.duration:.2f} s is stated; correct the duration, or state"
            " an offset if it is a segment",
            "duration",
        )
    elif utterance.offset is not None and utterance.offset + utterance.duration > header.duration + DURATION_TOLERANCE:
        problems.add(
            where,
            f"lasts {header.duration:.2f} s where the segment ends at {utterance.offset + utterance.duration:.2f} s;"
            " correct offset and duration",
            "duration",
        )
