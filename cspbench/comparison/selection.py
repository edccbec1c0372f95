"""Selection of a setting for each cell of a comparison, on dev. Nothing here looks at test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cspbench.comparison.candidates import CellKey, MethodSetting, TuningCell
from cspbench.comparison.plan import ChosenSettings, ComparisonPlan, PlannedRun, Task
from cspbench.result import TrialResult
from cspbench.store import Store
from cspbench.trials.outcome import Outcome, TrialStatus
from cspbench.trials.records import TrialLog, read_result

SATURATED = 0.9
"""Dev WER from which a recogniser has learned next to nothing, so that differences of WER say nothing."""


class ComparisonRecords:
    """Records of a comparison's trials: results lie in the store, failures in the study's lists.

    Args:
        store: where trials lie.
        name: of the comparison.

    Attributes:
        tuning: log of the trials that settings are chosen by.
        finals: log of the trials that are reported.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.tuning = TrialLog(store.study(name).tuning)
        self.finals = TrialLog(store.study(name).trials)
        self._errors = self.tuning.failures() | self.finals.failures()
        self._results: dict[str, TrialResult] = {}

    def result(self, task: Task) -> TrialResult | None:
        """The task's result if it has finished."""
        id = task.spec.id
        folder = self._store.trial(id)
        if id not in self._results and folder.finished:
            self._results[id] = read_result(folder)
        return self._results.get(id)

    def error(self, task: Task) -> str | None:
        """Error of the last attempt at an unfinished task; None if there is none."""
        return None if self.result(task) is not None else self._errors.get(task.spec.id)

    def outcome(self, task: Task) -> Outcome | None:
        """Outcome of the task, if it ended."""
        result, error = self.result(task), self.error(task)
        return None if result is None and error is None else Outcome(task.spec, result, error)

    def note(self, outcome: Outcome) -> None:
        """Remember why a trial failed, if it did."""
        if outcome.result is None:
            self._errors[outcome.spec.id] = outcome.error or "failed"

    def adopt(self, tasks: Sequence[Task]) -> None:
        """List finished tasks that this comparison has not listed: another study ran the same trials."""
        for log in (self.tuning, self.finals):
            listed = {record.trial_id for record in log.records() if record.state == "complete"}
            own = [task for task in tasks if self._log_of(task) is log and task.spec.id not in listed]
            for task in {task.spec.id: task for task in own if self.result(task) is not None}.values():
                self.collect(task, Outcome(task.spec, self.result(task), None))

    def collect(self, task: Task, outcome: Outcome) -> None:
        """Log how a task ended that ran elsewhere."""
        state: TrialStatus = "failed" if outcome.result is None else "complete"
        self._log_of(task).write(task.spec, state, outcome.error, task.candidate)
        self.note(outcome)

    def _log_of(self, task: Task) -> TrialLog:
        return self.finals if task.candidate is None else self.tuning


@dataclass(frozen=True)
class CandidateOutcome:
    """Outcome of one setting in tuning.

    Attributes:
        setting: the candidate.
        dev_wer: mean over its trials, a fraction; None unless every trial finished.
        dev_loss: mean transducer loss per label on dev; None unless every trial finished and knows it.
        trials: ids of its trials.
        errors: of the trials that failed.
        missing: number of trials that have neither finished nor failed.
    """

    setting: MethodSetting
    dev_wer: float | None
    dev_loss: float | None
    trials: tuple[str, ...]
    errors: tuple[str, ...]
    missing: int


@dataclass(frozen=True)
class Selection:
    """The candidate that a cell takes.

    Attributes:
        cell: method, sparsity and budget.
        tried: outcomes in the order of its candidates.
        best: candidates that dev cannot tell apart, none of the others being as good; empty while trials are missing,
            or if all failed. One is a choice; several are none, and the first of them is run.
    """

    cell: TuningCell
    tried: tuple[CandidateOutcome, ...]
    best: tuple[int, ...]

    @property
    def taken(self) -> int | None:
        """Number of the candidate that the finals run with."""
        return self.best[0] if self.best else None

    @property
    def missing(self) -> int:
        """Trials that have neither finished nor failed."""
        return sum(tried.missing for tried in self.tried)

    @property
    def trials(self) -> int:
        """Trials that the choice rests on, failed ones included."""
        return sum(len(tried.trials) for tried in self.tried) - self.missing

    @property
    def state(self) -> str:
        """Result of the selection: "chosen", "no choice" (a tie), "undecided" (trials missing) or "failed"."""
        if self.missing:
            return "undecided"
        return ("failed", "chosen", "no choice")[min(len(self.best), 2)]

    @property
    def notes(self) -> list[str]:
        """Remarks that belong beside the results."""
        found = []
        failed = [str(number) for number, tried in enumerate(self.tried) if tried.errors]
        if failed:
            rest = "goes on without" if self.best else "has no setting left after"
            error = next(error for tried in self.tried for error in tried.errors)
            found.append(f"{self.cell.label} {rest} candidate {', '.join(failed)}, which failed: {error}")
        if self.state == "no choice":
            tied = ", ".join(map(str, self.best))
            found.append(
                f"{self.cell.label}: no choice, dev cannot tell candidates {tied} apart; {self.best[0]} is run"
            )
        return found


def select_settings(plan: ComparisonPlan, records: ComparisonRecords) -> list[Selection]:
    """Select a setting for every cell whose trials have all ended.

    The lowest mean dev WER over corpora and folds wins. WERs from `SATURATED` up count as equal. Of equals, the lowest
    mean dev loss wins. A candidate of which any trial failed does not take part: its mean would be over easier ground.
    """
    tasks: dict[tuple[CellKey, int], list[Task]] = {}
    for task in plan.tuning_tasks():
        assert task.candidate is not None
        tasks.setdefault(((task.method, task.spec.sparsity, task.budget), task.candidate), []).append(task)
    return [_select(cell, [tasks[cell.key, n] for n in range(len(cell.candidates))], records) for cell in plan.cells]


def chosen_settings(selections: Iterable[Selection]) -> ChosenSettings:
    """Settings that the finals run with, of the cells that are decided."""
    return {s.cell.key: s.cell.candidates[s.taken] for s in selections if s.taken is not None}


def describe_selections(plan: ComparisonPlan, selections: Iterable[Selection]) -> list[dict[str, Any]]:
    """Selections as JSON, for ``choices.json``."""
    where = [prepared.label for prepared in plan.tuning_corpora()]
    runs = list(plan.planned_runs())
    return [
        {
            "method": selection.cell.method,
            "sparsity": selection.cell.sparsity,
            "budget": selection.cell.budget,
            "serves": _served(plan, runs, selection.cell),
            "tuned_on": where,
            "state": selection.state,
            "taken": selection.taken,
            "trials": selection.trials,
            "notes": selection.notes,
            "candidates": [
                {
                    "number": number,
                    "params": tried.setting.method.params,
                    "learning_rate_factor": tried.setting.learning_rate,
                    "dev_wer": tried.dev_wer,
                    "dev_loss": tried.dev_loss,
                    "trials": list(tried.trials),
                    "errors": list(tried.errors),
                    "missing": tried.missing,
                }
                for number, tried in enumerate(selection.tried)
            ],
        }
        for selection in selections
    ]


def _served(plan: ComparisonPlan, runs: list[PlannedRun], cell: TuningCell) -> list[dict[str, float]]:
    """Sparsities and budgets of the finals that take their setting from a cell."""
    served = {(run.budget, run.sparsity): None for run in runs if run.entry.tuned and plan.cell_of(run) == cell.key}
    return [{"sparsity": sparsity, "budget": budget} for budget, sparsity in served]


def _select(cell: TuningCell, tasks: list[list[Task]], records: ComparisonRecords) -> Selection:
    tried = tuple(_outcome(setting, own, records) for setting, own in zip(cell.candidates, tasks, strict=True))
    return Selection(cell, tried, () if any(t.missing for t in tried) else _best(tried))


def _best(tried: tuple[CandidateOutcome, ...]) -> tuple[int, ...]:
    wers = {number: min(t.dev_wer, SATURATED) for number, t in enumerate(tried) if t.dev_wer is not None}
    best = [number for number, wer in wers.items() if wer == min(wers.values())]
    losses = {number: loss for number in best if (loss := tried[number].dev_loss) is not None}
    if len(losses) == len(best):
        best = [number for number in best if losses[number] == min(losses.values())]
    return tuple(best)


def _outcome(setting: MethodSetting, tasks: list[Task], records: ComparisonRecords) -> CandidateOutcome:
    results = [result for task in tasks if (result := records.result(task)) is not None]
    errors = tuple(error for task in tasks if (error := records.error(task)) is not None)
    whole = len(results) == len(tasks)
    losses = [loss for result in results if (loss := result.dev.loss) is not None]
    return CandidateOutcome(
        setting=setting,
        dev_wer=fmean(result.dev.wer for result in results) if whole else None,
        dev_loss=fmean(losses) if whole and len(losses) == len(tasks) else None,
        trials=tuple(task.spec.id for task in tasks),
        errors=errors,
        missing=len(tasks) - len(results) - len(errors),
    )
