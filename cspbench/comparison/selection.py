"""Which setting each cell of a comparison takes: the lowest mean dev WER. Nothing here looks at test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cspbench.comparison.candidates import TuningCell
from cspbench.comparison.plan import ChosenSettings, ComparisonPlan, Task
from cspbench.result import TrialResult
from cspbench.spec import MethodSpec
from cspbench.store import Store
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import TrialLog, read_result


class ComparisonRecords:
    """What is known of a comparison's trials: results lie in the store, failures in the study's lists.

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
        """Why the last attempt at an unfinished task failed, if one did."""
        return None if self.result(task) is not None else self._errors.get(task.spec.id)

    def outcome(self, task: Task) -> Outcome | None:
        """How the task ended, if it did."""
        result, error = self.result(task), self.error(task)
        return None if result is None and error is None else Outcome(task.spec, result, error)

    def note(self, outcome: Outcome) -> None:
        """Remember why a trial failed, if it did."""
        if outcome.result is None:
            self._errors[outcome.spec.id] = outcome.error or "failed"

    def collect(self, task: Task, outcome: Outcome) -> None:
        """Log how a task ended that ran elsewhere."""
        log = self.finals if task.candidate is None else self.tuning
        log.write(task.spec, "failed" if outcome.result is None else "complete", outcome.error, task.candidate)
        self.note(outcome)


@dataclass(frozen=True)
class CandidateOutcome:
    """What became of one setting in tuning; `dev_wer` (a fraction) is None unless every trial of it finished."""

    setting: MethodSpec
    dev_wer: float | None
    trials: tuple[str, ...]
    errors: tuple[str, ...]
    missing: int


@dataclass(frozen=True)
class Selection:
    """A cell, what it tried, and which it takes: `number` is None while trials are missing, or if all failed."""

    cell: TuningCell
    tried: tuple[CandidateOutcome, ...]
    number: int | None

    @property
    def missing(self) -> int:
        """Trials that have neither finished nor failed."""
        return sum(tried.missing for tried in self.tried)

    @property
    def trials(self) -> int:
        """Trials that the choice rests on, failed ones included."""
        return sum(len(tried.trials) for tried in self.tried)

    @property
    def note(self) -> str | None:
        """What a reader must be told about it."""
        failed = [str(number) for number, tried in enumerate(self.tried) if tried.errors]
        if not failed:
            return None
        rest = "goes on without" if self.number is not None else "has no setting left after"
        where = f"{self.cell.method} at {100 * self.cell.sparsity:g} %"
        return f"{where} {rest} candidate {', '.join(failed)}, which failed: {self._first_error()}"

    def _first_error(self) -> str:
        return next(error for tried in self.tried for error in tried.errors)


def select_settings(plan: ComparisonPlan, records: ComparisonRecords) -> list[Selection]:
    """Decide every cell whose trials have all ended: lowest mean dev WER over corpora and folds, of equals the earlier.

    A candidate of which any trial failed does not take part: its mean would be over easier ground.
    """
    tasks: dict[tuple[str, float, int], list[Task]] = {}
    for task in plan.tuning_tasks():
        assert task.candidate is not None
        tasks.setdefault((task.method, task.spec.sparsity, task.candidate), []).append(task)
    return [_decide(cell, [tasks[*cell.key, n] for n in range(len(cell.candidates))], records) for cell in plan.cells]


def chosen_settings(choices: Iterable[Selection]) -> ChosenSettings:
    """The settings that were decided on."""
    return {c.cell.key: c.cell.candidates[c.number] for c in choices if c.number is not None}


def describe_selections(plan: ComparisonPlan, choices: Iterable[Selection]) -> list[dict[str, Any]]:
    """Choices as JSON, for ``choices.json``."""
    where = [prepared.label for prepared in plan.tuning_corpora()]
    return [
        {
            "method": choice.cell.method,
            "sparsity": choice.cell.sparsity,
            "serves": [s for s in plan.config.sparsity if plan.tuned_at(s) == choice.cell.sparsity],
            "tuned_on": where,
            "chosen": choice.number,
            "trials": choice.trials,
            "note": choice.note,
            "candidates": [
                {
                    "number": number,
                    "params": tried.setting.params,
                    "dev_wer": tried.dev_wer,
                    "trials": list(tried.trials),
                    "errors": list(tried.errors),
                    "missing": tried.missing,
                }
                for number, tried in enumerate(choice.tried)
            ],
        }
        for choice in choices
    ]


def _decide(cell: TuningCell, tasks: list[list[Task]], records: ComparisonRecords) -> Selection:
    tried = tuple(_tried(setting, own, records) for setting, own in zip(cell.candidates, tasks, strict=True))
    finished = [(t.dev_wer, number) for number, t in enumerate(tried) if t.dev_wer is not None]
    settled = not any(t.missing for t in tried)
    return Selection(cell, tried, min(finished)[1] if settled and finished else None)


def _tried(setting: MethodSpec, tasks: list[Task], records: ComparisonRecords) -> CandidateOutcome:
    results = [result for task in tasks if (result := records.result(task)) is not None]
    errors = tuple(error for task in tasks if (error := records.error(task)) is not None)
    whole = len(results) == len(tasks)
    return CandidateOutcome(
        setting=setting,
        dev_wer=fmean(result.dev.wer for result in results) if whole else None,
        trials=tuple(task.spec.id for task in tasks),
        errors=errors,
        missing=len(tasks) - len(results) - len(errors),
    )
