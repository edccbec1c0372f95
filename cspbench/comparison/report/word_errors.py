"""From final trials to what the statistics are made of: word errors of runs on the utterances they were tested on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cspbench.errors import CspbenchError
from cspbench.report.bootstrap import Floats

Hypotheses = Callable[[str], pd.DataFrame]
"""From a trial's id to its test utterances: ``id``, ``speaker``, ``reference``, ``edits``, ``words``."""

FEWEST_SPEAKERS = 4
"""With fewer, drawing speakers says nothing, since too many draws have no spread: utterances are drawn, and it is said.

Of two corpora together the speakers add up: with 10 of one and 3 of the other, equally good methods were told apart
at p < 0.05 in 4 to 5 % of cases; in 19 % if utterances of the three were drawn instead and methods differed by speaker.
"""

RUN = ["fold", "seed"]
"""What two runs of a pair share: they start from one dense model and are tested on the same speech."""


class ComparisonError(CspbenchError):
    """Trials that cannot be compared."""


@dataclass(frozen=True)
class Utterances:
    """The test utterances of a corpus, or of one of its folds; arrays of shape (n,)."""

    corpus: str
    fold: int
    ids: NDArray[np.str_]
    speakers: NDArray[np.str_]
    words: Floats

    def same(self, other: Utterances) -> bool:
        """Whether they are the same ones, spoken and counted alike."""
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("ids", "speakers", "words"))


@dataclass(frozen=True)
class Block:
    """Runs that were tested on the same utterances: the seeds of a corpus, or of one of its folds.

    Attributes:
        utterances: what they were tested on.
        edits: word errors, or differences of paired runs, shape (runs, n).
        groups: names of what a bootstrap draws, shape (n,): speakers or utterances.
    """

    utterances: Utterances
    edits: Floats
    groups: NDArray[np.str_]


@dataclass(frozen=True)
class TrialErrors:
    """Word errors of finished trials.

    Attributes:
        tested: (corpus, fold) -> utterances; the fold of a corpus with a test set of its own is -1.
        places: trial id -> the corpus and fold it was tested on.
        edits: trial id -> word errors, shape (n,), in the order of the utterances.
        speakers: corpus -> number of test speakers in all its folds.
    """

    tested: dict[tuple[str, int], Utterances]
    places: dict[str, tuple[str, int]]
    edits: dict[str, Floats]
    speakers: dict[str, int]

    @classmethod
    def read(cls, trials: pd.DataFrame, hypotheses: Hypotheses) -> TrialErrors:
        """Read the hypotheses of every finished trial.

        Raises:
            ComparisonError: trials of one corpus and fold that were tested on different utterances, or one twice.
        """
        tested: dict[tuple[str, int], Utterances] = {}
        places: dict[str, tuple[str, int]] = {}
        edits: dict[str, Floats] = {}
        speakers: dict[str, set[str]] = {}
        for trial in trials[trials["state"] == "complete"].to_dict("records"):
            name, place = str(trial["trial_id"]), (str(trial["corpus"]), int(trial["fold"]))
            heard = hypotheses(name).sort_values("id", kind="stable")
            utterances = _utterances(place, heard)
            if not tested.setdefault(place, utterances).same(utterances):
                raise ComparisonError(
                    f"trial {name} ({trial['method']}) was not tested on the utterances of other trials of "
                    f"{place[0]}{'' if place[1] < 0 else f', fold {place[1]}'}: compare trials of one test set"
                )
            places[name] = place
            edits[name] = heard["edits"].to_numpy(dtype=float)
            speakers.setdefault(place[0], set()).update(utterances.speakers)
        return cls(tested, places, edits, {corpus: len(names) for corpus, names in speakers.items()})

    def words_of(self, trial_id: str) -> float:
        """Reference words that a trial was tested on; NaN where it has not finished."""
        return float(self.tested[self.places[trial_id]].words.sum()) if trial_id in self.places else float("nan")

    def by_speaker(self, corpora: Iterable[str]) -> bool:
        """Whether these corpora, taken together, have speakers enough to draw."""
        return sum(self.speakers.get(corpus, 0) for corpus in corpora) >= FEWEST_SPEAKERS

    def drawn(self, corpora: Sequence[str]) -> str:
        """What a bootstrap draws: ``"an4: 10 speakers"``, or ``"fsdd: 310 utterances (of 1 speaker)"``."""
        parts = []
        for corpus in corpora:
            speakers = self.speakers.get(corpus, 0)
            text = f"{speakers} speaker{'s' * (speakers != 1)}"
            if not self.by_speaker(corpora):
                count = sum(len(tested.ids) for tested in self.tested.values() if tested.corpus == corpus)
                text = f"{count} utterances (of {text})"
            parts.append(f"{corpus}: {text}")
        return "; ".join(parts)

    def blocks(self, trials: pd.DataFrame, by_speaker: bool = True) -> list[Block]:
        """Errors of trials, a block a corpus and fold, runs in order of seed."""
        rows = sorted(zip(trials["corpus"], trials["fold"], trials["seed"], trials["trial_id"], strict=True))
        result = []
        for (corpus, fold), runs in itertools.groupby(rows, key=lambda row: row[:2]):
            utterances = self.tested[corpus, fold]
            named = utterances.speakers if by_speaker else np.char.add(f"{fold}/", utterances.ids)
            result.append(Block(utterances, np.stack([self.edits[trial] for *_, trial in runs]), named))
        return result


def _utterances(place: tuple[str, int], heard: pd.DataFrame) -> Utterances:
    ids = heard["id"].to_numpy(dtype=str)
    if len(set(ids)) < len(ids):
        raise ComparisonError(f"{place[0]}: two test utterances of a trial have one id")
    return Utterances(*place, ids, heard["speaker"].to_numpy(dtype=str), heard["words"].to_numpy(dtype=float))


def difference(first: Sequence[Block], second: Sequence[Block]) -> list[Block]:
    """Errors of the first runs minus those of the second, which are their partners in the same order."""
    return [replace(a, edits=a.edits - b.edits) for a, b in zip(first, second, strict=True)]


def mean_errors(blocks: Iterable[Block]) -> Floats:
    """Errors of each utterance, averaged over the runs of its block; blocks one after the other, shape (n,)."""
    return np.concatenate([block.edits.mean(axis=0) for block in blocks])


def words(blocks: Iterable[Block]) -> Floats:
    """Reference words of each utterance, shape (n,)."""
    return np.concatenate([block.utterances.words for block in blocks])


def error_rate(blocks: Sequence[Block]) -> float:
    """Errors over words: averaged over the runs of a block, added up over blocks. NaN without blocks."""
    return float(mean_errors(blocks).sum() / words(blocks).sum()) if blocks else float("nan")
