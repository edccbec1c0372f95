"""A comparison file resolved: every training it asks for, in the order in which it is worth having."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cspbench.comparison.candidates import CellKey, MethodSetting, TuningCell, default_setting, tuning_cells
from cspbench.comparison.config import CONTROL, Budget, ComparedCorpus, ComparedMethod, ComparisonConfig
from cspbench.corpora.features import check_features
from cspbench.spec import CorpusSpec, Fold, TrialSpec
from cspbench.store import Store
from cspbench.sweep.plan import prepare_corpus

ChosenSettings = Mapping[CellKey, MethodSetting]
"""Settings by label of the method, and the sparsity and budget they were tuned at."""

CONTROL_METHOD = ComparedMethod(name=CONTROL)
"""Row of the control: it trains on as every method does, and prunes nothing."""


@dataclass(frozen=True)
class Task:
    """One trial, and what it is for in the comparison.

    Attributes:
        corpus: label of the corpus.
        method: label of the method.
        fold: of the corpus's cross-validation, if it has one.
        budget: multiple of the corpus's pruning run.
        candidate: number of the setting in tuning; None for a final trial.
        spec: what to run.
    """

    corpus: str
    method: str
    fold: int | None
    budget: float
    candidate: int | None
    spec: TrialSpec


@dataclass(frozen=True)
class Subset:
    """A part of a comparison; None stands for all."""

    methods: frozenset[str] | None = None
    sparsity: frozenset[float] | None = None
    corpora: frozenset[str] | None = None
    budgets: frozenset[float] | None = None

    def includes_corpus(self, label: str) -> bool:
        """Return whether a corpus belongs to it."""
        return self.corpora is None or label in self.corpora

    def includes(self, corpus: str, method: str) -> bool:
        """Return whether the runs of a method on a corpus belong to it, both given by their labels."""
        return self.includes_corpus(corpus) and (self.methods is None or method in self.methods)

    def includes_sparsity(self, sparsity: float) -> bool:
        """Return whether a sparsity belongs to it."""
        return self.sparsity is None or sparsity in self.sparsity

    def includes_budget(self, budget: float) -> bool:
        """Return whether a budget belongs to it."""
        return self.budgets is None or budget in self.budgets


ALL = Subset()


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus in one of its divisions, with its audio found and fingerprinted."""

    entry: ComparedCorpus
    fold: int | None
    spec: CorpusSpec
    train_utterances: int
    synthetic: bool

    @property
    def label(self) -> str:
        """Such as ``an4`` or ``fsdd fold 2``."""
        return self.entry.key if self.fold is None else f"{self.entry.key} fold {self.fold}"

    def steps(self, budget: float) -> int:
        """Optimiser steps that every method is given at a budget."""
        training = self.entry.training(budget)
        return training.epochs * math.ceil(self.train_utterances / training.batch_size)


@dataclass(frozen=True)
class PlannedRun:
    """A run to be reported: a method on a corpus at a sparsity and budget, from a dense model, under a seed."""

    prepared: PreparedCorpus
    entry: ComparedMethod
    sparsity: float
    budget: float
    dense_seed: int
    seed: int


@dataclass(frozen=True)
class ComparisonPlan:
    """Everything a comparison will run.

    Attributes:
        config: the checked file.
        prepared_corpora: prepared corpora by label and fold, those of the finals and of the tuning.
        cells: what is tuned, in the order of budgets, then sparsities, then methods.
    """

    config: ComparisonConfig
    prepared_corpora: Mapping[tuple[str, int | None], PreparedCorpus]
    cells: tuple[TuningCell, ...]

    @property
    def synthetic(self) -> bool:
        """True if any audio is synthetic."""
        return any(prepared.synthetic for prepared in self.prepared_corpora.values())

    def tuning_tasks(self, only: Subset = ALL) -> list[Task]:
        """Trials that settings are chosen by, of the cells that the finals of `only` take settings from."""
        tuning = self.config.tuning
        if tuning is None:
            return []
        entries = {entry.key: entry for entry in self.config.methods}
        wanted = self.wanted_cells(only)
        return [
            self._task(
                prepared,
                entries[cell.method],
                cell.candidates[number],
                (cell.sparsity, cell.budget),
                (self.config.tuning_dense_seed(prepared.entry, tuning), tuning.seed),
                number,
            )
            for (budget, sparsity) in itertools.product(tuning.budgets, tuning.at)
            for number in range(tuning.trials)
            for cell in self.cells
            if (cell.budget, cell.sparsity) == (budget, sparsity) and cell.key in wanted
            for prepared in self.tuning_corpora()
            if only.includes_corpus(prepared.entry.key)
        ]

    def wanted_cells(self, only: Subset = ALL) -> set[CellKey]:
        """Cells that the planned runs of `only` take their settings from, whatever the corpus."""
        methods_and_sparsities = Subset(only.methods, only.sparsity, None, only.budgets)
        runs = self.planned_runs(methods_and_sparsities)
        return {self.cell_of(run) for run in runs if run.entry.tuned}

    def planned_runs(self, only: Subset = ALL) -> Iterator[PlannedRun]:
        """Runs to be reported: budget by budget and sparsity by sparsity in the order of the file, then by seeds.

        The control, which has no sparsity, comes before the other methods of its budget and seeds. A run that two
        entries of the same budget ask for comes once.
        """
        seen: set[tuple[str, float, str, float, int, int]] = set()
        for run in self._runs(only):
            key = (run.prepared.label, run.budget, run.entry.key, run.sparsity, run.dense_seed, run.seed)
            if key not in seen:
                seen.add(key)
                yield run

    def final_task(self, planned: PlannedRun, chosen: ChosenSettings) -> Task | None:
        """The trial of a planned run; None while its setting is not chosen."""
        setting = self.setting(planned, chosen)
        if setting is None:
            return None
        at, seeds = (planned.sparsity, planned.budget), (planned.dense_seed, planned.seed)
        return self._task(planned.prepared, planned.entry, setting, at, seeds, None)

    def final_tasks(self, chosen: ChosenSettings, only: Subset = ALL) -> list[Task]:
        """Trials of the planned runs whose setting is known."""
        tasks = (self.final_task(planned, chosen) for planned in self.planned_runs(only))
        return [task for task in tasks if task is not None]

    def setting(self, planned: PlannedRun, chosen: ChosenSettings) -> MethodSetting | None:
        """Setting of a planned run; None while it is not chosen."""
        if not planned.entry.tuned:
            return default_setting(planned.entry)
        return chosen.get(self.cell_of(planned))

    def cell_of(self, planned: PlannedRun) -> CellKey:
        """Cell that a planned run takes its setting from: that of the nearest density and budget.

        Near means a ratio close to one: 95 % is as far from 90 % as from 97.5 %. Of equals, the one listed first.
        """
        tuning = self.config.tuning
        if tuning is None:
            return planned.entry.key, planned.sparsity, planned.budget
        densities = [1 - sparsity for sparsity in tuning.at]
        sparsity = tuning.at[_nearest(densities, 1 - planned.sparsity)]
        return planned.entry.key, sparsity, tuning.budgets[_nearest(tuning.budgets, planned.budget)]

    def tuning_corpora(self) -> list[PreparedCorpus]:
        """Corpora, by fold, on which settings are tried."""
        return [self.prepared_corpora[entry.key, fold] for entry, fold in _tuning_keys(self.config)]

    def final_corpora(self, order: int) -> list[PreparedCorpus]:
        """Corpora, by fold, on which the pruning seed number `order` is run."""
        return [self.prepared_corpora[entry.key, fold] for entry, fold in _final_keys(self.config, order)]

    def _runs(self, only: Subset) -> Iterator[PlannedRun]:
        for budget in filter(lambda part: only.includes_budget(part.times), self.config.budgets):
            sparsities = list(filter(only.includes_sparsity, budget.sparsity or self.config.sparsity))
            if self.config.control and sparsities:
                yield from self._replicated([CONTROL_METHOD], 0.0, budget, only)
            for sparsity in sparsities:
                yield from self._replicated(self.config.methods, sparsity, budget, only)

    def _replicated(
        self, entries: Sequence[ComparedMethod], sparsity: float, budget: Budget, only: Subset
    ) -> Iterator[PlannedRun]:
        for number in range(len(self.config.dense_seeds or (0,)) * len(self.config.seeds)):
            for prepared in self.final_corpora(number % len(self.config.seeds)):
                dense_seed, seed = self.config.replicates(prepared.entry)[number]
                for entry in entries:
                    if only.includes(prepared.entry.key, entry.key) and budget.includes(prepared.entry.key, entry.key):
                        yield PlannedRun(prepared, entry, sparsity, budget.times, dense_seed, seed)

    def _task(
        self,
        prepared: PreparedCorpus,
        entry: ComparedMethod,
        setting: MethodSetting,
        at: tuple[float, float],
        seeds: tuple[int, int],
        candidate: int | None,
    ) -> Task:
        """A trial at (sparsity, budget) under (dense seed, pruning seed)."""
        corpus, (sparsity, budget), (dense_seed, seed) = prepared.entry, at, seeds
        training = corpus.training(budget, setting.learning_rate, entry.training)
        recipe = corpus.with_run(training, dense_seed)
        spec = recipe.trial_spec(prepared.spec, setting.method, sparsity, seed, self.config.latency)
        if candidate is not None:
            spec = spec.model_copy(update={"selection_only": True})
        return Task(corpus.key, entry.key, prepared.fold, budget, candidate, spec)


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
    plan = ComparisonPlan(config, prepared_corpora, tuple(tuning_cells(config)))
    wanted = plan.wanted_cells()
    return replace(plan, cells=tuple(cell for cell in plan.cells if cell.key in wanted))


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
    check_features(entry.features, corpus.sample_rate)
    return PreparedCorpus(entry, fold, prepared, len(corpus.split("train")), corpus.synthetic)


def _nearest(values: Sequence[float], wanted: float) -> int:
    """Position of the value whose ratio to `wanted` is closest to one, of equals the first."""
    return min(range(len(values)), key=lambda i: round(abs(math.log(values[i] / wanted)), 9))
