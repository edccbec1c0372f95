"""Trials that run somewhere else: a file of specs there, a folder of results back.

Running needs neither Optuna nor MLflow.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from cspbench.errors import ConfigError
from cspbench.spec import TrialSpec
from cspbench.store import ModelFolder, Store, StudyFolder, atomic_file
from cspbench.trials.executors import make_executor
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Display
from cspbench.trials.queue import Job, TrialQueue
from cspbench.trials.records import TrialLog, read_result


def read_specs(path: Path, corpus_path: Path | None = None) -> list[TrialSpec]:
    """Read a file of specs, one JSON object a line.

    Args:
        path: as written by `cspbench trials export`.
        corpus_path: where the audio lies on this machine, in place of what the specs say.

    Raises:
        ConfigError: unreadable, or all lines that are no specs.
    """
    specs, problems = {}, []
    for number, line in _lines(path):
        try:
            spec = TrialSpec.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            problems.append(f"  line {number}: {'.'.join(map(str, first['loc'])) or 'spec'}: {first['msg']}")
            continue
        if corpus_path is not None:
            spec = moved(spec, corpus_path)
        specs[spec.id] = spec
    if problems:
        raise ConfigError("\n".join([f"{path}: lines that are no trial specs", *problems]))
    if not specs:
        raise ConfigError(f"{path} holds no trial specs")
    return list(specs.values())


def run_specs(
    specs: list[TrialSpec], out: Path, workers: int, device: str, display: Display, timeout: float | None = None
) -> list[Outcome]:
    """Run specs into a results folder and return how each ended; those that have a result there are not run again.

    Args:
        specs: the trials.
        out: the results folder.
        workers: trials that run at the same time.
        device: as in a sweep file.
        display: shows progress.
        timeout: seconds after which a running trial fails; None for no limit.
    """
    store = Store(out)
    dense = [spec.dense for spec in specs if not store.trial(spec.id).finished]
    with make_executor(workers, store, device, display.event, timeout) as executor:
        queue = TrialQueue(executor, store, display)
        return list(queue.run(map(Job, specs), TrialLog(StudyFolder(out).trials), dense=dense, total=len(specs)))


def take_in(folder: Path, store: Store) -> list[Outcome]:
    """Copy the finished trials of a results folder into the store, with the dense recognisers they started from.

    All results are checked before anything is copied; what the store has already is left as it is.

    Raises:
        ConfigError: the folder holds no trials, or something that is none.
    """
    outcomes = list(_outcomes(folder))
    if not outcomes:
        raise ConfigError(f"{folder} holds no trials: give the folder that `cspbench trials run` wrote to")
    source = Store(folder)
    for outcome in outcomes:
        if outcome.result is not None:
            _copy(source.trial(outcome.spec.id), store.trial(outcome.spec.id))
            _copy(source.dense(outcome.spec.dense.id), store.dense(outcome.spec.dense.id))
    return outcomes


def _outcomes(folder: Path) -> Iterator[Outcome]:
    log, store = TrialLog(StudyFolder(folder).trials), Store(folder)
    if not log.path.is_file():
        raise ConfigError(f"cannot read {log.path}: give the folder that `cspbench trials run` wrote to")
    for record in log.records():
        trial = store.trial(record.trial_id)
        result = read_result(trial) if trial.finished else None
        yield Outcome(record.parse(), result, None if result else record.error or "not finished")


def _copy(source: ModelFolder, target: ModelFolder) -> None:
    """Copy the files of a folder, its result last: a folder with a result is complete."""
    if target.finished or not source.path.is_dir():
        return
    files = [path for path in source.path.iterdir() if path.is_file() and not path.is_symlink() and path.name[0] != "."]
    for path in sorted(files, key=lambda path: path == source.result):
        with path.open("rb") as source_file, atomic_file(target.path / path.name) as copy:
            shutil.copyfileobj(source_file, copy)


def moved(spec: TrialSpec, corpus_path: Path) -> TrialSpec:
    """Return a spec whose audio lies elsewhere; it remains the same trial."""
    corpus = spec.dense.corpus.model_copy(update={"path": str(corpus_path.absolute())})
    return spec.model_copy(update={"dense": spec.dense.model_copy(update={"corpus": corpus})})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    yield from ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())
