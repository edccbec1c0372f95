"""How much of a comparison is left, and about how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from cspbench.comparison.plan import ALL, ComparisonPlan, PreparedCorpus, Subset
from cspbench.comparison.selection import ComparisonRecords, chosen_settings, select_settings
from cspbench.store import Store


@dataclass(frozen=True)
class StageEstimate:
    """The trials of one stage on one corpus (and fold).

    Attributes:
        stage: ``dense``, ``tune`` or ``final``.
        corpus: label of the corpus, and fold.
        steps: optimiser steps of one trial, by the budget: a method may need more, or none.
        trials: how many there are.
        finished: of them, with a result.
        failed: of them, at the last attempt.
        seconds: of one worker for what is left; None without a finished trial on that corpus to go by.
    """

    stage: str
    corpus: str
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
    method: str
    seconds: float | None  # that it took; None if it has no result
    failed: bool


def stage_estimates(plan: ComparisonPlan, store: Store, only: Subset = ALL) -> list[StageEstimate]:
    """Count what there is to do, stage by stage and corpus by corpus.

    A trial not yet run is held to take as long as the mean of its method on its corpus, or else of all methods there.
    """
    items = [*_tuning(plan, store, only), *_finals(plan, store, only)]
    groups: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.stage, item.prepared.label), []).append(item)
    return [
        StageEstimate(
            stage=stage,
            corpus=label,
            steps=group[0].prepared.steps,
            trials=len(group),
            finished=sum(item.seconds is not None for item in group),
            failed=sum(item.failed for item in group),
            seconds=_sum(_expected(item, items) for item in group if item.seconds is None),
        )
        for (stage, label), group in groups.items()
    ]


def dense_missing(plan: ComparisonPlan, store: Store, only: Subset = ALL) -> int:
    """Dense recognisers that have to be trained first."""
    settings = {cell.key: cell.candidates[0] for cell in plan.cells}  # any will do: all start from the same
    tasks = [*plan.tuning_tasks(only), *plan.final_tasks(settings, only)]
    ids = {task.spec.dense.id for task in tasks}
    return sum(not store.dense(id).finished for id in ids)


def _tuning(plan: ComparisonPlan, store: Store, only: Subset) -> Iterator[_Item]:
    records = ComparisonRecords(store, plan.config.name)
    for task in plan.tuning_tasks(only):
        result = records.result(task)
        prepared = plan.prepared_corpora[task.corpus, task.fold]
        yield _Item(
            "tune", prepared, task.method, None if result is None else result.seconds, records.error(task) is not None
        )


def _finals(plan: ComparisonPlan, store: Store, only: Subset) -> Iterator[_Item]:
    records = ComparisonRecords(store, plan.config.name)
    settings = chosen_settings(select_settings(plan, records))
    for planned in plan.planned_runs(only):
        task = plan.final_task(planned, settings)
        result = records.result(task) if task is not None else None
        failed = task is not None and records.error(task) is not None
        yield _Item("final", planned.prepared, planned.entry.key, None if result is None else result.seconds, failed)


def _expected(item: _Item, known: list[_Item]) -> float | None:
    here = [
        other for other in known if other.seconds is not None and other.prepared.entry.key == item.prepared.entry.key
    ]
    alike = [other for other in here if other.method == item.method] or here
    return fmean(other.seconds for other in alike if other.seconds is not None) if alike else None


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)
