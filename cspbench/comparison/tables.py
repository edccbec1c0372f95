"""What a comparison leaves behind as data: rows of ``finals.csv`` and ``tuning.csv``, and what to warn of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.comparison.plan import ComparisonPlan, PlannedRun, Task
from cspbench.comparison.selection import ComparisonRecords, Selection, chosen_settings, describe_selections
from cspbench.store import Store, write_atomic, write_json

if TYPE_CHECKING:
    from cspbench.comparison.report import Evaluation

TUNING = [
    *("corpus", "method", "sparsity_requested", "candidate", "seed", "fold", "dense_id", "trial_id", "state"),
    *("dev_wer", "steps", "train_seconds", "chosen", "params", "error"),
]
FINALS = [
    *("corpus", "method", "sparsity_requested", "sparsity", "seed", "fold", "dense_id", "trial_id", "state"),
    *("dev_wer", "wer", "edits", "words", "dense_wer", "steps", "train_seconds", "params", "tuning_trials", "error"),
]


def folder_of(plan: ComparisonPlan, store: Store) -> Path:
    """Where a comparison's tables lie."""
    return store.study(plan.config.name).comparison


def final_rows(plan: ComparisonPlan, choices: Iterable[Selection], records: ComparisonRecords) -> list[dict[str, Any]]:
    """One row a planned run, finished or not, with the keys `FINALS`: what was not run stays visible."""
    by_key = {choice.cell.key: choice for choice in choices}
    settings = chosen_settings(by_key.values())
    rows = []
    for planned in plan.planned_runs():
        choice = by_key.get((planned.entry.key, plan.tuned_at(planned.sparsity))) if planned.entry.tuned else None
        tuning = choice.trials if choice is not None else 0
        task = plan.final_task(planned, settings)
        rows.append(_undecided(planned, choice) if task is None else _final_row(task, records))
        rows[-1] |= {"tuning_trials": tuning}
    return [{key: row.get(key) for key in FINALS} for row in rows]


def tuning_rows(plan: ComparisonPlan, choices: Iterable[Selection], records: ComparisonRecords) -> list[dict[str, Any]]:
    """One row a tuning trial, with the keys `TUNING`. Test plays no part in tuning, so its rows do not hold it."""
    numbers = {choice.cell.key: choice.number for choice in choices}
    rows = []
    for task in plan.tuning_tasks():
        taken = task.candidate == numbers[task.method, task.spec.sparsity]
        row = _row(task, records) | {"candidate": task.candidate, "chosen": taken}
        rows.append({key: row.get(key) for key in TUNING})
    return rows


def write_tables(
    plan: ComparisonPlan, choices: list[Selection], records: ComparisonRecords, store: Store, command: str = ""
) -> tuple[Evaluation | None, list[Path]]:
    """Write ``finals.csv``, ``tuning.csv``, ``choices.json`` and, once a final has finished, all that follows from it.

    Args:
        plan: what was asked for.
        choices: what was decided.
        records: what has finished.
        store: where it lies.
        command: the line that made the comparison, for its summary.

    Returns:
        What the finals say, None before there are any, and the files written.
    """
    import pandas as pd

    from cspbench.comparison.report import evaluate_finals, write_evaluation
    from cspbench.report.results import load_hypotheses

    folder = folder_of(plan, store)
    finals = pd.DataFrame(final_rows(plan, choices, records), columns=FINALS)
    tuning = pd.DataFrame(tuning_rows(plan, choices, records), columns=TUNING)
    write_atomic(folder / "finals.csv", finals.to_csv(index=False))
    write_atomic(folder / "tuning.csv", tuning.to_csv(index=False))
    write_json(folder / "choices.json", describe_selections(plan, choices))
    files = [folder / name for name in ("finals.csv", "tuning.csv", "choices.json")]
    if not finals["state"].eq("complete").any():
        return None, files
    comparison = evaluate_finals(finals, lambda trial: load_hypotheses(store, trial), plan.config.proposed)
    return comparison, [*files[1:], *write_evaluation(comparison, folder, command)]


def warnings(plan: ComparisonPlan, choices: list[Selection], records: ComparisonRecords) -> Iterator[str]:
    """What a reader of the tables must know."""
    yield from (choice.note for choice in choices if choice.note is not None)
    tasks = [*plan.tuning_tasks(), *plan.final_tasks(chosen_settings(choices))]
    dense: dict[str, set[tuple[int, int]]] = {}
    for task in tasks:
        result = records.result(task)
        if result is not None:
            dense.setdefault(task.spec.dense.id, set()).add((result.dense_dev.edits, result.dense_test.edits))
    for task in tasks:
        if len(dense.pop(task.spec.dense.id, ())) > 1:
            yield (
                f"{task.corpus}: trials did not all start from the same weights of the dense recogniser "
                f"{task.spec.dense.id}: it was trained on several machines, or again"
            )


def _undecided(planned: PlannedRun, choice: Selection | None) -> dict[str, Any]:
    why = "all of its settings failed" if choice is not None and not choice.missing else "its setting is not chosen yet"
    return {
        "corpus": planned.prepared.entry.key,
        "method": planned.entry.key,
        "sparsity_requested": planned.sparsity,
        "seed": planned.seed,
        "fold": planned.prepared.fold,
        "state": "not run",
        "error": why,
    }


def _final_row(task: Task, records: ComparisonRecords) -> dict[str, Any]:
    row, result = _row(task, records), records.result(task)
    if result is None:
        return row
    measures = {"sparsity": result.sparsity, "wer": result.test.wer, "edits": result.test.edits}
    return row | measures | {"words": result.test.words, "dense_wer": result.dense_test.wer}


def _row(task: Task, records: ComparisonRecords) -> dict[str, Any]:
    spec, result, error = task.spec, records.result(task), records.error(task)
    row = {
        "corpus": task.corpus,
        "method": task.method,
        "sparsity_requested": spec.sparsity,
        "seed": spec.seed,
        "fold": task.fold,
        "dense_id": spec.dense.id,
        "trial_id": spec.id,
        "params": json.dumps(spec.method.params, sort_keys=True),
        "state": "complete" if result is not None else "not run" if error is None else "failed",
        "error": error,
    }
    if result is not None:
        row |= {"dev_wer": result.dev.wer, "steps": result.steps, "train_seconds": result.train_seconds}
    return row
