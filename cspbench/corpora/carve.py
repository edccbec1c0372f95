"""Seeded division into splits, independent of file order and library versions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from cspbench.corpora.utterance import Split, Utterance
from cspbench.errors import CorpusError
from cspbench.spec import Fold


def ranked(names: Iterable[str], seed: int) -> list[str]:
    """Distinct names in a seeded random order: by hash, so that adding one name does not reshuffle the others."""
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def carve_dev(utterances: list[Utterance], fraction: float, seed: int, *, by_speaker: bool = True) -> list[Utterance]:
    """Move a fraction of the train speakers (of utterances, where the speaker is unknown) from train to dev.

    Args:
        utterances: all splits; dev is empty.
        fraction: of the train speakers, in (0, 1); at least one is moved and at least one stays.
        seed: which ones.
        by_speaker: False moves single utterances and so lets train and dev share speakers.

    Raises:
        CorpusError: train has but one speaker.
    """

    def unit(u: Utterance) -> str:
        return f"speaker {u.speaker}" if by_speaker and u.speaker else f"utterance {u.id}"

    units = ranked((unit(u) for u in utterances if u.split == "train"), seed)
    if len(units) < 2:
        raise CorpusError(
            f"train cannot be divided into train and dev: it holds {units[0] if units else 'nothing'} alone;"
            " supply a dev split"
        )
    moved = set(units[: min(max(1, round(fraction * len(units))), len(units) - 1)])
    return [replace(u, split="dev") if u.split == "train" and unit(u) in moved else u for u in utterances]


def refold(utterances: Iterable[Utterance], fold: Fold) -> list[Utterance]:
    """Divide all speakers anew for a cross-validation, whatever split they were in.

    Speakers are dealt to the folds in turn, those with most utterances first (equals by a hash of their name), so that
    the folds are about equally large. Every speaker is in test in exactly one fold, in dev in one other.

    Raises:
        CorpusError: utterances without a speaker, or fewer speakers than folds.
    """
    listed = list(utterances)
    counts = Counter(u.speaker for u in listed)
    if "" in counts:
        raise CorpusError("a cross-validation divides speakers, and some utterances name none: supply their speakers")
    if len(counts) < fold.of:
        raise CorpusError(f"{len(counts)} speakers cannot be divided into {fold.of} folds")
    order = sorted(ranked(counts, seed=0), key=lambda name: -counts[name])
    place = {speaker: index % fold.of for index, speaker in enumerate(order)}
    splits: dict[int, Split] = {fold.index: "test", (fold.index + 1) % fold.of: "dev"}
    return [replace(u, split=splits.get(place[u.speaker], "train")) for u in listed]
