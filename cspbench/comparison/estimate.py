"""Estimate of how much of a comparison is left, and about how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from cspbench.comparison.plan import ALL, ComparisonPlan, PreparedCorpus, Subset, Task
from cspbench.comparison.selection import ComparisonRecords, chosen_settings, select_settings
from cspbench.store import Store


@dataclass(frozen=True)
class StageEstimate:
    """The trials of one stage on one corpus (and fold).

    Attributes:
        stage: ``dense``, ``tune`` or ``final``.
        corpus: label of the corpus, and fold.
        budget: multiple of the corpus's pruning run.
        steps: optimiser steps of one trial, by the budget: a method may need more, or none.
        trials: how many there are.
        finished: of them, with a result.
        failed: of them, at the last attempt.
        seconds: of one worker for what is left; None without a finished trial on that corpus to go by.
    """

    stage: str
    corpus: str
    budget: float
    steps: int
    trials: int
    finished: int
    failed: int
    seconds: float | None

    @property
    def left(self) -> int:
        """Trials without a result."""
        return self.trials - self.finished


@dataclass(frozen=True)
class _Item:
    stage: str
    prepared: PreparedCorpus
    budget: float
    epochs: int
    method: str
    seconds: float | None  # that it took; None if it has no result
    failed: bool


def stage_estimates(plan: ComparisonPlan, store: Store, only: Subset = ALL) -> list[StageEstimate]:
    """Count the trials, stage by stage, corpus by corpus and budget by budget.

    A trial not yet run is taken to need as long as the mean of its method on its corpus, or else of all methods there;
    per epoch, since seconds grow with the steps.
    """
    items = [*_tuning(plan, store, only), *_finals(plan, store, only)]
    groups: dict[tuple[str, str, float], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.stage, item.prepared.label, item.budget), []).append(item)
    return [
        StageEstimate(
            stage=stage,
            corpus=label,
            budget=budget,
            steps=group[0].prepared.steps(budget),
            trials=len(group),
            finished=sum(item.seconds is not None for item in group),
            failed=sum(item.failed for item in group),
            seconds=_sum(_expected(item, items) for item in group if item.seconds is None),
        )
        for (stage, label, budget), group in groups.items()
    ]


def dense_missing(plan: ComparisonPlan, store: Store, only: Subset = ALL) -> int:
    """Count the dense recognisers that have to be trained first."""
    settings = {cell.key: cell.candidates[0] for cell in plan.cells}  # any will do: all start from the same
    tasks = [*plan.tuning_tasks(only), *plan.final_tasks(settings, only)]
    ids = {task.spec.dense.id for task in tasks}
    return sum(not store.dense(id).finished for id in ids)


def _tuning(plan: ComparisonPlan, store: Store, only: Subset) -> Iterator[_Item]:
    records = ComparisonRecords(store, plan.config.name)
    for task in plan.tuning_tasks(only):
        prepared = plan.prepared_corpora[task.corpus, task.fold]
        epochs = task.spec.training.epochs
        yield _Item("tune", prepared, task.budget, epochs, task.method, *_outcome(task, records))


def _finals(plan: ComparisonPlan, store: Store, only: Subset) -> Iterator[_Item]:
    records = ComparisonRecords(store, plan.config.name)
    settings = chosen_settings(select_settings(plan, records))
    for planned in plan.planned_runs(only):
        task = plan.final_task(planned, settings)
        entry = planned.entry
        epochs = planned.prepared.entry.training(planned.budget, changes=entry.training).epochs
        yield _Item("final", planned.prepared, planned.budget, epochs, entry.key, *_outcome(task, records))


def _outcome(task: Task | None, records: ComparisonRecords) -> tuple[float | None, bool]:
    """Seconds that a trial took, None without a result, and whether it failed; a trial may have no setting yet."""
    if task is None:
        return None, False
    result = records.result(task)
    return None if result is None else result.seconds, records.error(task) is not None


def _expected(item: _Item, known: list[_Item]) -> float | None:
    corpus = item.prepared.entry.key
    here = [other for other in known if other.seconds is not None and other.prepared.entry.key == corpus]
    alike = [other for other in here if other.method == item.method] or here
    rates = [other.seconds / other.epochs for other in alike if other.seconds is not None]
    return item.epochs * fmean(rates) if rates else None


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)
