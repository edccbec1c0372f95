"""Trials that ran elsewhere, collected into a study: files, MLflow and report."""

from __future__ import annotations

from pathlib import Path

from cspbench.store import Store
from cspbench.sweep.runner import close_study
from cspbench.sweep.sync import Logbook, describe
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display
from cspbench.trials.records import TrialLog
from cspbench.trials.remote import take_in


def collect(folder: Path, name: str, store: Store, display: Display) -> list[Outcome]:
    """Copy the trials of a results folder into the store as the study `name`: files, MLflow and report.

    Results are checked before they are copied: a trial lies under the id of its own spec and its result says so.
    Collecting again adds only what is new.

    Raises:
        ConfigError: the folder holds no trials, or something that is none.
    """
    outcomes = take_in(folder, store)
    log = TrialLog(store.study(name).trials)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    tags = {"synthetic": str(any(result.synthetic for result in results)).lower()}
    logbook = Logbook(store, name, describe({"collected": name}, tags, {}, []), display.note)
    logbook.begin()
    display.expect(len(outcomes))
    for outcome in outcomes:
        log.write(outcome.spec, "failed" if outcome.result is None else "complete", outcome.error)
        logbook.log(outcome)
        display.ended(outcome, cached=True)
    close_study(name, store, logbook, display, complete=len(results) == len(outcomes))
    return outcomes
