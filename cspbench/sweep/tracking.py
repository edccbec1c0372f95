"""A view of a sweep in MLflow: a run for the sweep, a child run for each trial. Never the source of truth.

Only the sweep's own process logs, as results arrive and from what lies on disk; what is logged already is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.result import ALIASES, TrialResult
from cspbench.spec import TrialSpec, content_id
from cspbench.store import Store
from cspbench.sweep.database import create_database, other_schema, sqlite_url
from cspbench.sweep.moved import follow_artifacts
from cspbench.sweep.view import share_view
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import read_rows

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRIAL, SWEEP, CONTENT = "cspbench.trial_id", "cspbench.sweep", "cspbench.content"
PARENT = "mlflow.parentRunId"
STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""MLflow's states of runs, by state of the trial."""

CURVE_POINTS = 150
"""Records of a training curve that are logged: MLflow takes 0.2 ms for each number."""

HTTP = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Short patience of MLflow's own client, by default minutes a request, since `Logbook` tries again; and no prints."""

BATCH = 1000
"""Metrics in a batch, MLflow's limit."""


def database_uri(store: Store) -> str:
    """Return the address of the database that MLflow keeps its runs in."""
    return sqlite_url(store.mlflow / "mlflow.db")


def ui_command(store: Store, name: str) -> str:
    """Return the line a person types to look at a study."""
    return f"cspbench ui {shlex.quote(name)} --root {shlex.quote(str(store.root))}"


def open_client(store: Store, server: str | None = None) -> MlflowClient:
    """Return a client of MLflow; it sends nothing anywhere else.

    Args:
        store: its database is used, and made if needed (some seconds), where there is no server.
        server: address of an MLflow server; user and password come from MLFLOW_TRACKING_USERNAME and _PASSWORD.

    Artifacts of a store that was moved are found where it lies now.

    Raises:
        DatabaseError: the database was made by another version of MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):  # importing it set them back
        logging.getLogger(name).setLevel(logging.WARNING)
    if server is not None:
        for name, value in HTTP.items():
            os.environ.setdefault(name, value)
        return MlflowClient(tracking_uri=server)
    path = store.mlflow / "mlflow.db"
    create_database(path, lambda address: MlflowClient(tracking_uri=address).search_experiments())
    try:
        client = MlflowClient(tracking_uri=database_uri(store))
    except MlflowException as error:
        if "out-of-date database schema" in str(error):
            raise other_schema(path, "MLflow", "mlflow db upgrade") from error
        raise
    follow_artifacts(path, store.mlflow / "artifacts")
    return client


class Tracker:
    """Logs one sweep.

    Args:
        client: from `open_client`.
        store: where trials lie.
        name: of the sweep and its experiment.
        content: what the sweep stands for, as JSON; the same content goes on in the same parent run.
        tags: repeated on every run, so that filters find children too.
        only: id of the one trial that is to be logged, where others log the rest; None for all.
    """

    def __init__(
        self,
        client: MlflowClient,
        store: Store,
        name: str,
        content: Any,
        tags: Mapping[str, str] | None = None,
        only: str | None = None,
    ) -> None:
        self._client, self._store, self._name = client, store, name
        self._tags = {SWEEP: name, CONTENT: content_id("sweep", content), **(tags or {})}
        self._experiment = self._open_experiment(name)
        self.parent = self._open_parent(name)
        self._logged = {run.data.tags[TRIAL]: run for run in self._children(only)}
        if only is None:
            share_view(client, name)

    def log(self, outcome: Outcome) -> bool:
        """Log how a trial ended; returns False if that was logged already. Half-logged and failed runs are replaced."""
        known = self._logged.get(outcome.spec.id)
        if known is not None:
            if known.info.status == "FINISHED" or (known.info.status == STATUS[outcome.state] != "FINISHED"):
                return False
            self._client.delete_run(known.info.run_id)
        run_id = self._create_child(outcome)
        if outcome.result is not None:
            self._log_result(run_id, outcome.spec, outcome.result)
        self._client.set_terminated(run_id, STATUS[outcome.state])
        self._logged[outcome.spec.id] = self._client.get_run(run_id)
        return True

    def finish(self, status: str, metrics: Mapping[str, float] | None = None, files: Iterable[Path] = ()) -> None:
        """Close the parent run: its tables and plots are artifacts, `status` one of MLflow's."""
        for path in files:
            self._client.log_artifact(self.parent, str(path), "report")
        for name, value in (metrics or {}).items():
            self._client.log_metric(self.parent, name, value)
        self._client.set_terminated(self.parent, status)
        share_view(self._client, self._name)

    def log_sweep(self, params: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
        """Log what the sweep as a whole was asked to do."""
        from mlflow.entities import Param

        self._client.log_batch(self.parent, params=[Param(k, _text(v)) for k, v in params.items()])
        for path in files:
            self._client.log_artifact(self.parent, str(path))

    def _open_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return found.experiment_id
        if self._client.tracking_uri.startswith("http"):  # the server knows where its artifacts go
            return self._client.create_experiment(name)
        # Without a place of its own MLflow would put artifacts under the working folder.
        return self._client.create_experiment(
            name, artifact_location=(self._store.mlflow / "artifacts" / name).as_uri()
        )

    def _open_parent(self, name: str) -> str:
        content = self._tags[CONTENT]
        query = f"tags.`{CONTENT}` = '{content}' AND tags.`cspbench.kind` = 'sweep'"
        for run in self._client.search_runs([self._experiment], query, max_results=1):
            self._client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id
        tags = self._tags | {"cspbench.kind": "sweep"}
        return self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id

    def _children(self, only: str | None) -> Iterator[Any]:
        token = None
        query = f"tags.`{PARENT}` = '{self.parent}'" + (f" AND tags.`{TRIAL}` = '{only}'" if only else "")
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _create_child(self, outcome: Outcome) -> str:
        spec, result = outcome.spec, outcome.result
        tags = self._tags | {"cspbench.kind": "trial", TRIAL: spec.id, PARENT: self.parent}
        if outcome.error is not None:
            tags["cspbench.error"] = outcome.error[:5000]
        if outcome.stopped is not None:
            tags["cspbench.stopped"] = outcome.stopped
        if outcome.reason is not None:
            tags["cspbench.failure"] = outcome.reason
        if result is not None and result.latency is not None and (noise := result.latency.noise) is not None:
            tags["cspbench.latency"] = noise.verdict or ("quiet" if noise.conclusive else "noisy")
        started = time.time() - (result.seconds if result else 0)
        name = f"{spec.method.name}-{spec.sparsity:g}-seed{spec.seed}"
        run = self._client.create_run(self._experiment, start_time=int(started * 1000), tags=tags, run_name=name)
        from mlflow.entities import Param

        self._client.log_batch(run.info.run_id, params=[Param(k, _text(v)) for k, v in trial_params(spec).items()])
        return run.info.run_id

    def _log_result(self, run_id: str, spec: TrialSpec, result: TrialResult) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        folder = self._store.trial(spec.id)
        metrics = [Metric(name, value, now, 0) for name, value in trial_metrics(result).items()]
        for record in thinned(_rows(folder.curve)):
            metrics += [Metric(k, v, now, record["step"]) for k, v in _curve_metrics(record)]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        hypotheses = _rows(folder.hypotheses)
        if hypotheses:
            columns = list(hypotheses[0])
            table = {"columns": columns, "data": [[row.get(key) for key in columns] for row in hypotheses]}
            self._client.log_dict(run_id, table, "hypotheses.json")
            # What `log_table` writes, less its detour through pandas.
            self._client.set_tag(run_id, "mlflow.loggedArtifacts", '[{"path": "hypotheses.json", "type": "table"}]')
        places = {folder.weights: "checkpoint", folder.model: "checkpoint", folder.spec: None, folder.result: None}
        for path, place in places.items():
            if path.is_file():
                self._client.log_artifact(run_id, str(path), place)


def trial_params(spec: TrialSpec) -> dict[str, Any]:
    """Return what distinguishes a trial, flat; hyperparameters under their method's name, as in Optuna."""
    return {
        "method": spec.method.name,
        "sparsity": spec.sparsity,
        "seed": spec.seed,
        **{f"{spec.method.name}.{key}": value for key, value in spec.method.params.items()},
        "trial_id": spec.id,
        "dense_id": spec.dense.id,
        "dense_seed": spec.dense.seed,
        "corpus": spec.dense.corpus.name,
        "corpus_fingerprint": spec.dense.corpus.fingerprint,
        "model": spec.dense.model.preset,
        "dense_epochs": spec.dense.training.epochs,
        "epochs": spec.training.epochs,
        "learning_rate": spec.training.learning_rate,
        "batch_size": spec.training.batch_size,
        "prunable": ",".join(spec.prunable),
    }


def trial_metrics(result: TrialResult) -> dict[str, float]:
    """Return the metrics of a result, their aliases, and ``layer_sparsity/<layer>`` for each layer."""
    metrics = result.metrics()
    aliases = {alias: metrics[name] for alias, name in ALIASES.items() if name in metrics}
    return metrics | aliases | {f"layer_sparsity/{layer}": zeros for layer, zeros in result.layer_sparsity.items()}


def thinned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most about `CURVE_POINTS` records, evenly spread; those with a dev WER and the last one always stay."""
    every = max(1, -(-len(records) // CURVE_POINTS))
    last = len(records) - 1
    return [r for i, r in enumerate(records) if i % every == 0 or i == last or r.get("dev_wer") is not None]


def _curve_metrics(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if key not in ("step", "epoch") and isinstance(value, (int, float)):
            yield f"curve/{key}", float(value)


def _rows(path: Path) -> list[dict[str, Any]]:
    return read_rows(path) if path.is_file() else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
