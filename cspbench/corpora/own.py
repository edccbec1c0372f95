"""Shared part of the loaders of the user's own speech: options, sample rate, and a dev split where none is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pydantic import Field

from cspbench.corpora.audio import read_header
from cspbench.corpora.carve import carve_dev
from cspbench.corpora.jsonl import Normalise
from cspbench.corpora.problems import Problems
from cspbench.corpora.text import TextOptions, normalise
from cspbench.corpora.utterance import Corpus, Utterance
from cspbench.errors import CorpusError

UNREADABLE_RATE = 16000
"""Hz stated for a corpus none of whose files can be read; its problems stop it anyway."""


class OwnOptions(TextOptions):
    """Options of loaders of the user's own speech."""

    sample_rate: int | None = Field(None, ge=1000, le=192000, description="Hz; unset: that of most files")
    dev_share: float = Field(0.1, gt=0, lt=1, description="fraction of train held out where there is no dev split")
    speaker_disjoint: bool = Field(True, description="keep each known speaker in one split")
    synthetic: bool = Field(False, description="set it if a machine made the audio: every report will say so")
    seed: int = Field(0, ge=0, description="selects what becomes dev")

    def normaliser(self) -> Normalise:
        """The normalisation of transcripts that these options ask for."""
        return partial(normalise, lowercase=self.lowercase, digits=self.digits)


def own_corpus(name: str, utterances: list[Utterance], options: OwnOptions, problems: Problems) -> Corpus:
    """Make a corpus of the utterances of a user.

    Args:
        name: of the loader.
        utterances: those that can be used, in all their splits; where none is in dev, some of train become dev.
        options: of the loader.
        problems: what could not be read.

    Raises:
        CorpusError: there are no utterances.
    """
    if not utterances:
        problems.check()
        raise CorpusError("the corpus holds no utterances")
    if not any(u.split == "dev" for u in utterances):
        try:
            utterances = carve_dev(utterances, options.dev_share, options.seed, by_speaker=options.speaker_disjoint)
        except CorpusError as error:
            problems.add("train split", str(error), "empty split")
    return Corpus(
        name,
        options.sample_rate or common_rate(u.audio for u in utterances),
        tuple(utterances),
        synthetic=options.synthetic,
        shared_speakers=not options.speaker_disjoint,
        score_unseen=options.unseen_characters == "score",
        problems=tuple(problems.found),
    )


def common_rate(files: Iterable[Path]) -> int:
    """Return the sample rate of most files in Hz, the first seen of equals; files that cannot be read do not count."""
    rates: Counter[int] = Counter()
    for file in dict.fromkeys(files):
        try:
            rates[read_header(file).sample_rate] += 1
        except CorpusError:
            continue  # the check of all headers names it
    return rates.most_common(1)[0][0] if rates else UNREADABLE_RATE
