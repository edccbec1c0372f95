"""Where results are read from: studies by name, results folders, and MLflow servers."""

from __future__ import annotations

import atexit
import functools
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cspbench.errors import did_you_mean
from cspbench.spec import TrialSpec
from cspbench.store import NAME, Store, read_json, write_json, write_jsonl
from cspbench.trials.records import ResultsError, TrialLog, TrialRecord, TrialStatus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Source = str | Path | Sequence[str | Path]
"""A study or trial by name or id, a folder of results, the address of an MLflow server, or a list of these."""


@dataclass(frozen=True)
class Place:
    """A study of a results folder, or a single trial of it where `study` is empty."""

    store: Store
    study: str
    trial: str = ""

    def records(self) -> list[TrialRecord]:
        """Return the last record of each trial, in order of first appearance.

        Raises:
            ResultsError: no such study, or a line that is no record.
        """
        if self.trial:
            folder = self.store.trial(self.trial)
            state: TrialStatus = "complete" if folder.finished else "running"
            return [TrialRecord(self.trial, state, read_json(folder.spec), None, None, str(folder.spec))]
        return study_records(self.store, self.study)


def places(source: Source, root: Store | Path | str) -> list[Place]:
    """Resolve a source.

    Args:
        source: the name of a study; the id of a trial, or its first digits; a results folder or the folder of a study
            or trial in it; the tracking URI of an MLflow server or database; or a list of such.
        root: folder of all results, for names and ids.

    Raises:
        ResultsError: nothing of that name is there.
        ConfigError: several trials whose ids start so.
    """
    if not isinstance(source, (str, Path)):
        return [place for one in source for place in places(one, root)]
    text, store = str(source), Store(root)
    if re.match(r"[a-z]+(\+[a-z]+)?://", text):
        return _studies(_tracked(text))
    if isinstance(source, str) and NAME.fullmatch(text):
        if text in store.studies():
            return [Place(store, text)]
        if any(store.root.glob(f"trials/{text}*")):
            return [Place(store, "", store.find_trial(text).path.name)]
    folder = Path(source).expanduser().absolute()
    if folder.parent.name == "studies" and folder.is_dir():
        return [Place(Store(folder.parent.parent), folder.name)]
    if folder.parent.name == "trials" and folder.is_dir():
        return [Place(Store(folder.parent.parent), "", folder.name)]
    if (folder / "studies").is_dir():
        return _studies(Store(folder))
    return [Place(store, text)]  # its records say that it is not there, and what is


def study_records(store: Store, name: str) -> list[TrialRecord]:
    """Return the last record of each trial of a study, in order of first appearance.

    Raises:
        ResultsError: no such study.
    """
    known = store.studies()
    if name not in known:
        listed = ", ".join(known) if known else "none yet: run `cspbench sweep`"
        raise ResultsError(f"no study '{name}' under {store.root}{did_you_mean(name, known)} (studies there: {listed})")
    return TrialLog(store.study(name).trials).records()


def _studies(store: Store) -> list[Place]:
    return [Place(store, name) for name in store.studies()]


@functools.cache
def _tracked(uri: str) -> Store:
    """Results folder behind a tracking URI: that of the database, or one filled from the server's runs."""
    path = Path(urlsplit(uri).path)
    if uri.startswith("sqlite:") and path.parent.name == "mlflow" and (path.parents[1] / "studies").is_dir():
        return Store(path.parents[1])
    from mlflow import MlflowClient

    folder = tempfile.TemporaryDirectory(prefix="cspbench-tracked-")
    atexit.register(folder.cleanup)
    store = Store(folder.name)
    client = MlflowClient(tracking_uri=uri)
    for experiment in client.search_experiments():
        for run in trial_runs(client, experiment.experiment_id):
            _take(client, run, experiment.name, store)
    return store


def trial_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    """Iterate over the runs of all trials of an experiment, given by its id, the one started first first."""
    token = None
    query = "tags.`cspbench.kind` = 'trial'"
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token, order_by=["start_time"])
        yield from page
        token = page.token
        if not token:
            return


def _take(client: MlflowClient, run: Run, study: str, store: Store) -> None:
    """Write what a run of a finished trial holds into a store; runs of other trials have no spec and are left out."""
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    if not {"spec.json", "result.json"} <= names:
        return
    folder = store.trial(run.data.tags["cspbench.trial_id"])
    for name, path in (("spec.json", folder.spec), ("result.json", folder.result)):
        write_json(path, _artifact(client, run, name))
    if "hypotheses.json" in names:
        table = _artifact(client, run, "hypotheses.json")
        write_jsonl(folder.hypotheses, [dict(zip(table["columns"], row, strict=True)) for row in table["data"]])
    write_jsonl(folder.curve, _curve(client, run))
    TrialLog(store.study(study).trials).write(TrialSpec.model_validate(read_json(folder.spec)), "complete")


def _artifact(client: MlflowClient, run: Run, name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return read_json(Path(client.download_artifacts(run.info.run_id, name, folder)))


def _curve(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    """Rows of the training curve, from the history of its metrics."""
    rows: dict[int, dict[str, Any]] = {}
    for name in (name for name in run.data.metrics if name.startswith("curve/")):
        for point in client.get_metric_history(run.info.run_id, name):
            rows.setdefault(point.step, {"step": point.step})[name.removeprefix("curve/")] = point.value
    return [rows[step] for step in sorted(rows)]
