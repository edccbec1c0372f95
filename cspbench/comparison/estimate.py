"""How much of a comparison is left, and about how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from cspbench.comparison.plan import ALL, ComparisonPlan, Only, Place
from cspbench.comparison.selection import Book, choose, chosen
from cspbench.store import Store


@dataclass(frozen=True)
class Share:
    """The trials of one stage at one place.

    Attributes:
        stage: ``dense``, ``tune`` or ``final``.
        place: corpus and fold.
        steps: optimiser steps of one trial, by the budget: a method may need more, or none.
        trials: how many there are.
        finished: of them, with a result.
        failed: of them, at the last attempt.
        seconds: of one worker for what is left; None without a finished trial on that corpus to go by.
    """

    stage: str
    place: str
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
    place: Place
    method: str
    seconds: float | None  # that it took; None if it has no result
    failed: bool


def shares(plan: ComparisonPlan, store: Store, only: Only = ALL) -> list[Share]:
    """Count what there is to do, stage by stage and place by place.

    A trial not yet run is held to take as long as the mean of its method on its corpus, or else of all methods there.
    """
    items = [*_tuning(plan, store, only), *_finals(plan, store, only)]
    groups: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.stage, item.place.label), []).append(item)
    return [
        Share(
            stage=stage,
            place=label,
            steps=group[0].place.steps,
            trials=len(group),
            finished=sum(item.seconds is not None for item in group),
            failed=sum(item.failed for item in group),
            seconds=_sum(_expected(item, items) for item in group if item.seconds is None),
        )
        for (stage, label), group in groups.items()
    ]


def dense_missing(plan: ComparisonPlan, store: Store, only: Only = ALL) -> int:
    """Dense recognisers that have to be trained first."""
    settings = {cell.key: cell.candidates[0] for cell in plan.cells}  # any will do: all start from the same
    tasks = [*plan.tuning_tasks(only), *plan.final_tasks(settings, only)]
    ids = {task.spec.dense.id for task in tasks}
    return sum(not (store.dense(id) / "result.json").is_file() for id in ids)


def _tuning(plan: ComparisonPlan, store: Store, only: Only) -> Iterator[_Item]:
    book = Book(store, plan.config.name)
    for task in plan.tuning_tasks(only):
        result = book.result(task)
        place = plan.places[task.corpus, task.fold]
        yield _Item(
            "tune", place, task.method, None if result is None else result.seconds, book.error(task) is not None
        )


def _finals(plan: ComparisonPlan, store: Store, only: Only) -> Iterator[_Item]:
    book = Book(store, plan.config.name)
    settings = chosen(choose(plan, book))
    for slot in plan.slots(only):
        task = plan.final_task(slot, settings)
        result = book.result(task) if task is not None else None
        failed = task is not None and book.error(task) is not None
        yield _Item("final", slot.place, slot.entry.key, None if result is None else result.seconds, failed)


def _expected(item: _Item, known: list[_Item]) -> float | None:
    here = [other for other in known if other.seconds is not None and other.place.entry.key == item.place.entry.key]
    alike = [other for other in here if other.method == item.method] or here
    return fmean(other.seconds for other in alike if other.seconds is not None) if alike else None


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)
