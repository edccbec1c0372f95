"""Data that a comparison leaves behind: rows of ``finals.csv``, ``tuning.csv`` and ``layers.csv``, and warnings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cspbench.comparison.plan import ComparisonPlan, PlannedRun, Task
from cspbench.comparison.selection import ComparisonRecords, Selection, chosen_settings, describe_selections
from cspbench.result import METRICS
from cspbench.store import Store, write_atomic, write_json

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.comparison.record import Record
    from cspbench.comparison.report import Evaluation

TUNING = [
    *("corpus", "method", "sparsity_requested", "budget", "candidate", "dense_seed", "seed", "fold", "dense_id"),
    *("trial_id", "state", "dev_wer", "dev_loss", "steps", "train_seconds", "taken", "learning_rate", "params"),
    "error",
]
"""Columns of ``tuning.csv``."""

COUNTS = ("edits", "substitutions", "deletions", "insertions", "words")
"""Word errors on test, and reference words."""

FINALS = [
    *("corpus", "method", "division", "sparsity_requested", "sparsity", "budget", "dense_seed", "seed", "fold"),
    *("dense_id", "trial_id", "state", "dev_wer", "dev_loss", "test_wer", "test_cer", "test_loss", *COUNTS),
    *("dense_wer", "steps", "train_seconds", "learning_rate", "params", "selection", "tuning_trials", "error"),
    "synthetic",
]
"""Columns of ``finals.csv``."""


def folder_of(plan: ComparisonPlan, store: Store) -> Path:
    """Folder of a comparison's tables."""
    return store.study(plan.config.name).comparison


def final_rows(
    plan: ComparisonPlan, selections: Iterable[Selection], records: ComparisonRecords
) -> list[dict[str, Any]]:
    """One row a planned run, finished or not, with the keys `FINALS`: what was not run stays visible."""
    by_key = {selection.cell.key: selection for selection in selections}
    settings = chosen_settings(by_key.values())
    rows = []
    for planned in plan.planned_runs():
        selection = by_key.get(plan.cell_of(planned)) if planned.entry.tuned else None
        task = plan.final_task(planned, settings)
        row = _unselected_row(planned, selection) if task is None else _final_row(task, records)
        rows.append(
            row
            | {
                "division": planned.entry.division,
                "selection": "default" if not planned.entry.tuned else selection.state if selection else "undecided",
                "tuning_trials": selection.trials if selection is not None else 0,
            }
        )
    return [{key: row.get(key) for key in FINALS} for row in rows]


def tuning_rows(
    plan: ComparisonPlan, selections: Iterable[Selection], records: ComparisonRecords
) -> list[dict[str, Any]]:
    """One row a tuning trial, with the keys `TUNING`. Test plays no part in tuning, so its rows do not hold it."""
    taken = {selection.cell.key: selection.taken for selection in selections}
    rows = []
    for task in plan.tuning_tasks():
        own = task.candidate == taken[task.method, task.spec.sparsity, task.budget]
        row = _row(task, records) | {"candidate": task.candidate, "taken": own}
        rows.append({key: row.get(key) for key in TUNING})
    return rows


def layer_rows(
    plan: ComparisonPlan, selections: Iterable[Selection], records: ComparisonRecords
) -> list[dict[str, Any]]:
    """One row a weight matrix of each cell, with the keys `report.LAYERS`: mean density (1 - sparsity) over trials."""
    found: dict[tuple[str, str, float, float], list[Mapping[str, float]]] = {}
    for task in plan.final_tasks(chosen_settings(selections)):
        result = records.result(task)
        if result is not None:
            key = (task.corpus, task.method, task.spec.sparsity, task.budget)
            found.setdefault(key, []).append(result.layer_sparsity)
    columns = ("corpus", "method", "sparsity_requested", "budget", "layer", "density", "trials")
    return [
        dict(zip(columns, (*key, layer, 1 - fmean(trial[layer] for trial in trials), len(trials)), strict=True))
        for key, trials in found.items()
        for layer in trials[0]
    ]


def write_tables(
    plan: ComparisonPlan,
    selections: list[Selection],
    records: ComparisonRecords,
    store: Store,
    command: str = "",
    record: Path | None = None,
) -> tuple[Evaluation | None, list[Path]]:
    """Write the rows of all trials and, once a final has finished, the evaluation that follows from them.

    Args:
        plan: what was asked for.
        selections: what was decided.
        records: what has finished.
        store: where it lies.
        command: the line that made the comparison, for its summary.
        record: folder of a written comparison that supplies the finals which were not run here.

    Returns:
        The evaluation, None before there is a final, and the files written.
    """
    import pandas as pd

    from cspbench.comparison.record import Record
    from cspbench.comparison.report import LAYERS, evaluate_finals, write_evaluation

    folder = folder_of(plan, store)
    finals = pd.DataFrame(final_rows(plan, selections, records), columns=FINALS)
    tuning = pd.DataFrame(tuning_rows(plan, selections, records), columns=TUNING)
    layers = pd.DataFrame(layer_rows(plan, selections, records), columns=LAYERS)
    recorded = Record.read(record) if record is not None else None
    if recorded is not None:
        finals, layers = recorded.fill(finals), recorded.fill_layers(layers)
    for name, table in {"finals.csv": finals, "tuning.csv": tuning, "layers.csv": layers}.items():
        write_atomic(folder / name, table.to_csv(index=False, float_format="%.6g"))
    write_json(folder / "choices.json", describe_selections(plan, selections))
    files = [folder / name for name in ("finals.csv", "tuning.csv", "layers.csv", "choices.json")]
    if not finals["state"].eq("complete").any():
        return None, files
    evaluation = evaluate_finals(
        finals, _hypotheses(plan, finals, store, recorded), plan.config.proposed, layers=layers
    )
    return evaluation, [*files[1:], *write_evaluation(evaluation, folder, command)]


def _hypotheses(
    plan: ComparisonPlan, finals: pd.DataFrame, store: Store, recorded: Record | None
) -> Callable[[str], pd.DataFrame]:
    """Test utterances of a trial, of the store or else of the record, with the clusters that its corpus names."""
    from cspbench.report.trial import Trial

    by_speaker = {entry.key for entry in plan.config.corpora if entry.cluster == "speaker"}
    corpora = dict(zip(finals["trial_id"], finals["corpus"], strict=True))

    def hypotheses(trial_id: str) -> pd.DataFrame:
        if recorded is not None and not store.trial(trial_id).hypotheses.is_file():
            return recorded.hypotheses(trial_id)
        found = Trial(trial_id, store).hypotheses
        return found.assign(cluster=found["speaker"]) if corpora[trial_id] in by_speaker else found

    return hypotheses


def warnings(plan: ComparisonPlan, selections: list[Selection], records: ComparisonRecords) -> Iterator[str]:
    """Remarks that a reader of the tables must know."""
    yield from (note for selection in selections for note in selection.notes)
    tasks = [*plan.tuning_tasks(), *plan.final_tasks(chosen_settings(selections))]
    edits: dict[str, tuple[set[int], set[int]]] = {}  # of each dense model, on dev and on test
    for task in tasks:
        result = records.result(task)
        if result is not None:
            on_dev, on_test = edits.setdefault(task.spec.dense.id, (set(), set()))
            on_dev.add(result.dense_dev.edits)
            on_test.add(result.dense_test.edits)
    for task in tasks:
        if any(len(counts) > 1 for counts in edits.pop(task.spec.dense.id, ())):
            yield (
                f"{task.corpus}: trials did not all start from the same weights of the dense recogniser "
                f"{task.spec.dense.id}: it was trained on several machines, or again"
            )


def _unselected_row(planned: PlannedRun, selection: Selection | None) -> dict[str, Any]:
    failed = selection is not None and selection.state == "failed"
    return {
        "corpus": planned.prepared.entry.key,
        "method": planned.entry.key,
        "sparsity_requested": planned.sparsity,
        "budget": planned.budget,
        "dense_seed": planned.dense_seed,
        "seed": planned.seed,
        "fold": planned.prepared.fold,
        "state": "not run",
        "error": "all of its settings failed" if failed else "its setting is not chosen yet",
    }


def _final_row(task: Task, records: ComparisonRecords) -> dict[str, Any]:
    row, result = _row(task, records), records.result(task)
    if result is None:
        return row
    metrics = result.metrics()
    counts = {name: metrics.get(f"test_{name}") for name in COUNTS}
    return (
        row
        | {name: metrics.get(name) for name in FINALS if name in METRICS}
        | counts
        | {"dense_wer": metrics.get("dense_test_wer"), "synthetic": result.synthetic}
    )


def _row(task: Task, records: ComparisonRecords) -> dict[str, Any]:
    spec, result, error = task.spec, records.result(task), records.error(task)
    row = {
        "corpus": task.corpus,
        "method": task.method,
        "sparsity_requested": spec.sparsity,
        "budget": task.budget,
        "dense_seed": spec.dense.seed,
        "seed": spec.seed,
        "fold": task.fold,
        "dense_id": spec.dense.id,
        "trial_id": spec.id,
        "learning_rate": spec.training.learning_rate,
        "params": json.dumps(spec.method.params, sort_keys=True),
        "state": "complete" if result is not None else "not run" if error is None else "failed",
        "error": error,
    }
    if result is not None:
        metrics = result.metrics()
        row |= {name: metrics.get(name) for name in TUNING if name in METRICS}
    return row
