"""A comparison file resolved: every training it asks for, in the order in which it is worth having."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cspbench.comparison.candidates import TuningCell, cells, default_setting
from cspbench.comparison.config import ComparedCorpus, ComparedMethod, ComparisonConfig
from cspbench.spec import CorpusSpec, Fold, MethodSpec, TrialSpec
from cspbench.store import Store
from cspbench.sweep.plan import prepare_corpus

ChosenSettings = Mapping[tuple[str, float], MethodSpec]
"""Settings by label of the method and the sparsity they were tuned at."""


@dataclass(frozen=True)
class Task:
    """One trial, and what it is for in the comparison.

    Attributes:
        corpus: label of the corpus.
        method: label of the method.
        fold: of the corpus's cross-validation, if it has one.
        candidate: number of the setting in tuning; None for a final trial.
        spec: what to run.
    """

    corpus: str
    method: str
    fold: int | None
    candidate: int | None
    spec: TrialSpec


@dataclass(frozen=True)
class Subset:
    """A part of a comparison; None stands for all."""

    methods: frozenset[str] | None = None
    sparsity: frozenset[float] | None = None
    corpora: frozenset[str] | None = None

    def includes_corpus(self, label: str) -> bool:
        """Whether a corpus belongs to it."""
        return self.corpora is None or label in self.corpora

    def includes_method(self, label: str) -> bool:
        """Whether a method belongs to it."""
        return self.methods is None or label in self.methods

    def includes_sparsity(self, sparsity: float) -> bool:
        """Whether a sparsity belongs to it."""
        return self.sparsity is None or sparsity in self.sparsity


ALL = Subset()


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus in one of its divisions, prepared."""

    entry: ComparedCorpus
    fold: int | None
    spec: CorpusSpec
    train_utterances: int
    synthetic: bool

    @property
    def label(self) -> str:
        """Such as ``an4`` or ``fsdd fold 2``."""
        return self.entry.key if self.fold is None else f"{self.entry.key} fold {self.fold}"

    @property
    def steps(self) -> int:
        """Optimiser steps that every method is given."""
        return self.entry.prune.epochs * math.ceil(self.train_utterances / self.entry.prune.batch_size)


@dataclass(frozen=True)
class PlannedRun:
    """A run to be reported: a method on a corpus at a sparsity under a seed."""

    prepared: PreparedCorpus
    entry: ComparedMethod
    sparsity: float
    seed: int


@dataclass(frozen=True)
class ComparisonPlan:
    """What a comparison will do.

    Attributes:
        config: the checked file.
        prepared_corpora: prepared corpora by label and fold, those of the finals and of the tuning.
        cells: what is tuned, in the order of sparsities, then methods.
    """

    config: ComparisonConfig
    prepared_corpora: Mapping[tuple[str, int | None], PreparedCorpus]
    cells: tuple[TuningCell, ...]

    @property
    def synthetic(self) -> bool:
        """Whether any audio was made by a machine."""
        return any(prepared.synthetic for prepared in self.prepared_corpora.values())

    def tuning_tasks(self, only: Subset = ALL) -> list[Task]:
        """Trials that settings are chosen by, of the sparsities that the finals of `only` take settings from."""
        tuning = self.config.tuning
        if tuning is None:
            return []
        wanted = {self.tuned_at(sparsity) for sparsity in self.config.sparsity if only.includes_sparsity(sparsity)}
        cells = [cell for cell in self.cells if cell.sparsity in wanted and only.includes_method(cell.method)]
        return [
            self._task(prepared, cell.method, cell.candidates[number], cell.sparsity, tuning.seed, number)
            for sparsity in tuning.at
            for number in range(tuning.trials)
            for cell in cells
            if cell.sparsity == sparsity
            for prepared in self.tuning_corpora()
            if only.includes_corpus(prepared.entry.key)
        ]

    def planned_runs(self, only: Subset = ALL) -> Iterator[PlannedRun]:
        """What is to be reported, sparsity by sparsity in the order of the file, and in each seed by seed."""
        for sparsity in filter(only.includes_sparsity, self.config.sparsity):
            for order, seed in enumerate(self.config.seeds):
                for prepared in self.final_corpora(order):
                    for entry in self.config.methods:
                        if only.includes_corpus(prepared.entry.key) and only.includes_method(entry.key):
                            yield PlannedRun(prepared, entry, sparsity, seed)

    def final_task(self, planned: PlannedRun, chosen: ChosenSettings) -> Task | None:
        """The trial of a planned run; None while its setting is not chosen."""
        setting = self.setting(planned.entry, planned.sparsity, chosen)
        if setting is None:
            return None
        return self._task(planned.prepared, planned.entry.key, setting, planned.sparsity, planned.seed, None)

    def final_tasks(self, chosen: ChosenSettings, only: Subset = ALL) -> list[Task]:
        """Trials of the planned runs whose setting is known."""
        tasks = (self.final_task(planned, chosen) for planned in self.planned_runs(only))
        return [task for task in tasks if task is not None]

    def setting(self, entry: ComparedMethod, sparsity: float, chosen: ChosenSettings) -> MethodSpec | None:
        """What a method runs with at a sparsity; None while that is not chosen."""
        if not entry.tuned:
            return default_setting(entry)
        return chosen.get((entry.key, self.tuned_at(sparsity)))

    def tuned_at(self, sparsity: float) -> float:
        """The sparsity that another takes its settings from: the nearest, of equals the one listed first.

        Near is whose density is in a ratio close to one: 95 % is as far from 90 % as from 97.5 %.
        """
        at = self.config.tuning.at if self.config.tuning is not None else (sparsity,)
        return min(at, key=lambda tuned: round(abs(math.log((1 - tuned) / (1 - sparsity))), 9))

    def tuning_corpora(self) -> list[PreparedCorpus]:
        """Where settings are tried."""
        return [self.prepared_corpora[entry.key, fold] for entry, fold in _tuning_keys(self.config)]

    def final_corpora(self, order: int) -> list[PreparedCorpus]:
        """Where the seed number `order` is run."""
        return [self.prepared_corpora[entry.key, fold] for entry, fold in _final_keys(self.config, order)]

    def _task(
        self,
        prepared: PreparedCorpus,
        label: str,
        method: MethodSpec,
        sparsity: float,
        seed: int,
        candidate: int | None,
    ) -> Task:
        entry = prepared.entry
        spec = entry.trial_spec(prepared.spec, method, sparsity, seed, self.config.latency)
        return Task(entry.key, label, prepared.fold, candidate, spec)


def resolve_comparison(config: ComparisonConfig, store: Store, note: Callable[[str], None]) -> ComparisonPlan:
    """Prepare and check the corpora of a comparison in all the divisions it needs, and draw the settings to try.

    Args:
        config: the checked file.
        store: keeps audio that has to be made.
        note: receives plain lines during long preparation.

    Raises:
        CorpusError: audio or transcripts that cannot be used.
        ConfigError: a method with fewer settings than are to be tried.
    """
    finals = (_final_keys(config, order) for order in range(len(config.seeds)))
    prepared_corpora: dict[tuple[str, int | None], PreparedCorpus] = {}
    for entry, fold in itertools.chain(_tuning_keys(config), *finals):
        if (entry.key, fold) not in prepared_corpora:
            prepared_corpora[entry.key, fold] = _prepare(entry, fold, store, note)
    return ComparisonPlan(config, prepared_corpora, tuple(cells(config)))


def _tuning_keys(config: ComparisonConfig) -> Iterator[tuple[ComparedCorpus, int | None]]:
    if config.tuning is None or not any(entry.tuned for entry in config.methods):
        return
    for entry in config.tuned_corpora():
        for fold in (None,) if entry.folds is None else config.tuning.folds or ():
            yield entry, fold


def _final_keys(config: ComparisonConfig, order: int) -> Iterator[tuple[ComparedCorpus, int | None]]:
    for entry in config.corpora:
        if entry.folds is None:
            yield entry, None
        elif entry.folds.pair == "cross":
            yield from ((entry, fold) for fold in entry.folds.use)
        else:
            yield entry, entry.folds.use[order % len(entry.folds.use)]


def _prepare(entry: ComparedCorpus, fold: int | None, store: Store, note: Callable[[str], None]) -> PreparedCorpus:
    spec = entry.corpus
    if entry.folds is not None and fold is not None:
        spec = spec.model_copy(update={"fold": Fold(index=fold, of=entry.folds.of)})
    corpus, prepared = prepare_corpus(spec, store, note)
    return PreparedCorpus(entry, fold, prepared, len(corpus.split("train")), corpus.synthetic)
