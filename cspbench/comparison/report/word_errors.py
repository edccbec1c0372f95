"""Word errors of runs on the utterances they were tested on: what the statistics of final trials are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cspbench.asr.wer import FEWEST_SPEAKERS
from cspbench.errors import CspbenchError
from cspbench.report.bootstrap import Floats

Hypotheses = Callable[[str], pd.DataFrame]
"""From a trial's id to its test utterances: ``id``, ``speaker``, ``reference``, ``edits``, ``words``; with ``cluster``
where utterances are not independent (see `Utterances`)."""

RUN = ["fold", "dense_seed", "seed"]
"""Columns that two runs of a pair share: they start from one dense model and are tested on the same speech."""


class ComparisonError(CspbenchError):
    """Trials that cannot be compared."""


@dataclass(frozen=True)
class Utterances:
    """Test utterances of a corpus, or of one of its folds; arrays of shape (n,).

    Attributes:
        corpus: its label.
        fold: -1 for a corpus with a test set of its own.
        ids: of the utterances.
        speakers: who speaks.
        clusters: the smallest units whose speech is independent: each utterance, unless recordings are dealt several
            times, as FSDD's are.
        words: reference words.
    """

    corpus: str
    fold: int
    ids: NDArray[np.str_]
    speakers: NDArray[np.str_]
    clusters: NDArray[np.str_]
    words: Floats

    def same(self, other: Utterances) -> bool:
        """Return whether both have the same utterances, speakers, clusters and numbers of words."""
        columns = ("ids", "speakers", "clusters", "words")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in columns)


@dataclass(frozen=True)
class Block:
    """Runs that were tested on the same utterances: the seeds of a corpus, or of one of its folds.

    Attributes:
        utterances: what they were tested on.
        edits: word errors, or differences of paired runs, shape (runs, n).
        models: seed of the dense model that each run pruned, shape (runs,).
        groups: names of what a bootstrap draws, shape (n,): speakers or clusters of utterances.
    """

    utterances: Utterances
    edits: Floats
    models: NDArray[np.int_]
    groups: NDArray[np.str_]

    def per_model(self) -> Floats:
        """Errors averaged over the pruning runs of each dense model, shape (models, n)."""
        return np.stack([self.edits[self.models == model].mean(axis=0) for model in np.unique(self.models)])

    def replicates(self) -> Floats:
        """Errors of each replicate, shape (replicates, n): a dense model; a pruning run, if all prune one model."""
        models = self.per_model()
        return models if len(models) > 1 else self.edits


@dataclass(frozen=True)
class TrialErrors:
    """Word errors of finished trials.

    Attributes:
        tested: (corpus, fold) -> utterances; the fold of a corpus with a test set of its own is -1.
        test_sets: trial id -> the corpus and fold it was tested on.
        edits: trial id -> word errors, shape (n,), in the order of the utterances.
        speakers: corpus -> number of test speakers in all its folds.
    """

    tested: dict[tuple[str, int], Utterances]
    test_sets: dict[str, tuple[str, int]]
    edits: dict[str, Floats]
    speakers: dict[str, int]

    @classmethod
    def read(cls, trials: pd.DataFrame, hypotheses: Hypotheses) -> TrialErrors:
        """Read the hypotheses of every finished trial.

        Raises:
            ComparisonError: trials of one corpus and fold that were tested on different utterances, or one twice.
        """
        tested: dict[tuple[str, int], Utterances] = {}
        test_sets: dict[str, tuple[str, int]] = {}
        edits: dict[str, Floats] = {}
        speakers: dict[str, set[str]] = {}
        for trial in trials[trials["state"] == "complete"].to_dict("records"):
            name, where = str(trial["trial_id"]), (str(trial["corpus"]), int(trial["fold"]))
            recognised = hypotheses(name).sort_values("id", kind="stable")
            utterances = _utterances(where, recognised)
            if not tested.setdefault(where, utterances).same(utterances):
                raise ComparisonError(
                    f"trial {name} ({trial['method']}) was not tested on the utterances of other trials of "
                    f"{where[0]}{'' if where[1] < 0 else f', fold {where[1]}'}: compare trials of one test set"
                )
            test_sets[name] = where
            edits[name] = recognised["edits"].to_numpy(dtype=float)
            speakers.setdefault(where[0], set()).update(utterances.speakers)
        return cls(tested, test_sets, edits, {corpus: len(names) for corpus, names in speakers.items()})

    def words_of(self, trial_id: str) -> float:
        """Reference words that a trial was tested on; NaN where it has not finished."""
        return float(self.tested[self.test_sets[trial_id]].words.sum()) if trial_id in self.test_sets else float("nan")

    def by_speaker(self, corpora: Iterable[str]) -> bool:
        """Return whether these corpora, taken together, have speakers enough to draw."""
        return sum(self.speakers.get(corpus, 0) for corpus in corpora) >= FEWEST_SPEAKERS

    def drawn(self, corpora: Sequence[str]) -> str:
        """Units that a bootstrap draws: ``"an4: 10 speakers"``, or ``"fsdd: 310 utterances (of 1 speaker)"``."""
        parts = []
        for corpus in corpora:
            speakers = self.speakers.get(corpus, 0)
            text = f"{speakers} speaker{'s' * (speakers != 1)}"
            if not self.by_speaker(corpora):
                count = sum(len(set(tested.clusters)) for tested in self.tested.values() if tested.corpus == corpus)
                text = f"{count} utterances (of {text})"
            parts.append(f"{corpus}: {text}")
        return "; ".join(parts)

    def blocks(self, trials: pd.DataFrame, by_speaker: bool = True) -> list[Block]:
        """Errors of trials, a block a corpus and fold, runs in order of dense seed and seed."""
        columns = ("corpus", "fold", "dense_seed", "seed", "trial_id")
        rows = sorted(zip(*(trials[name] for name in columns), strict=True))
        result = []
        for (corpus, fold), runs in itertools.groupby(rows, key=lambda row: row[:2]):
            utterances, own = self.tested[corpus, fold], list(runs)
            result.append(
                Block(
                    utterances,
                    edits=np.stack([self.edits[trial] for *_, trial in own]),
                    models=np.array([model for _, _, model, *_ in own]),
                    groups=utterances.speakers if by_speaker else np.char.add(f"{fold}/", utterances.clusters),
                )
            )
        return result


def _utterances(where: tuple[str, int], recognised: pd.DataFrame) -> Utterances:
    ids = recognised["id"].to_numpy(dtype=str)
    if len(set(ids)) < len(ids):
        raise ComparisonError(f"{where[0]}: two test utterances of a trial have one id")
    clusters = recognised["cluster"].to_numpy(dtype=str) if "cluster" in recognised else ids
    speakers = recognised["speaker"].to_numpy(dtype=str)
    return Utterances(*where, ids, speakers, clusters, recognised["words"].to_numpy(dtype=float))


def difference(first: Sequence[Block], second: Sequence[Block]) -> list[Block]:
    """Errors of the first runs minus those of the second, which are their partners in the same order."""
    return [replace(a, edits=a.edits - b.edits) for a, b in zip(first, second, strict=True)]


def mean_errors(blocks: Iterable[Block]) -> Floats:
    """Errors of each utterance, averaged over the runs of each dense model and then over the models.

    Returns:
        Blocks one after the other, shape (n,).
    """
    return np.concatenate([block.per_model().mean(axis=0) for block in blocks])


def words(blocks: Iterable[Block]) -> Floats:
    """Reference words of each utterance, shape (n,)."""
    return np.concatenate([block.utterances.words for block in blocks])


def speakers(blocks: Iterable[Block]) -> list[str]:
    """Speaker of each utterance, length n; those of different corpora have different names."""
    return [f"{b.utterances.corpus}/{name}" for b in blocks for name in b.utterances.speakers]


def clusters(blocks: Iterable[Block]) -> list[str]:
    """Cluster of each utterance, length n; those of different corpora and folds have different names."""
    return [f"{b.utterances.corpus}/{b.utterances.fold}/{name}" for b in blocks for name in b.utterances.clusters]


def totals(values: Floats, groups: Sequence[str]) -> Floats:
    """Sums of `values` (n,) over the members of each group, shape (groups,)."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(codes, weights=values).astype(float)


def error_rate(blocks: Sequence[Block]) -> float:
    """Errors over words: averaged over the runs of a block, added up over blocks. NaN without blocks."""
    return float(mean_errors(blocks).sum() / words(blocks).sum()) if blocks else float("nan")
