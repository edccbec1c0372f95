"""A view of a sweep in MLflow: a run for the sweep, a child run for each trial. Never the source of truth.

Only the sweep's own process logs, as results arrive and from what lies on disk; what is logged already is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from cspbench.result import ALIASES, TrialResult
from cspbench.spec import CorpusSpec, TrialSpec, content_id
from cspbench.store import ModelFolder, Store, TrialFolder
from cspbench.sweep.database import create_database, other_schema, sqlite_url
from cspbench.sweep.models import register_best
from cspbench.sweep.moved import follow_artifacts
from cspbench.sweep.notes import CONTENT, DENSE, KIND, NOTE, PARENT, SWEEP, TRIAL, source_tags, sweep_note, trial_note
from cspbench.sweep.view import share_view
from cspbench.trials.outcome import Outcome
from cspbench.trials.records import rows_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

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

FIGURE = "layers_and_curve.png"
"""Artifact of a trial: sparsity of its layers and its training curve."""

HYPOTHESES = "hypotheses.json"
"""Artifact of a trial: reference and hypothesis of each utterance of test, as a table."""

CLIPS = "worst utterances"
"""Folder of a trial's artifacts: audio of the utterances with the most errors."""

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

    Artifacts of a store that was moved are found where it lies now.

    Args:
        store: its database is used, and made if needed (some seconds), where there is no server.
        server: address of an MLflow server; user and password come from MLFLOW_TRACKING_USERNAME and _PASSWORD.

    Raises:
        DatabaseError: the database was made by another version of MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # importing it set them back
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs the traceback of every error that it raises, and whoever catches that says it in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
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


class _Logged(NamedTuple):
    """A trial's run, and its state as MLflow calls it."""

    run_id: str
    status: str


class Tracker:
    """Logs one sweep.

    Args:
        client: from `open_client`.
        store: where trials lie.
        name: of the sweep and its experiment.
        content: what the sweep stands for, as JSON; the same content goes on in the same parent run.
        tags: repeated on every run, so that filters find children too.
        only: id of the one trial to be logged, where others log the rest and the run of the sweep; None for all.
        alone: excludes the others while a run is logged that any of them might log.

    Raises:
        MlflowException: the server cannot be reached; or, with `only`, the sweep has no run yet.
    """

    def __init__(
        self,
        client: MlflowClient,
        store: Store,
        name: str,
        content: Any,
        tags: Mapping[str, str] | None = None,
        only: str | None = None,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._client, self._store, self._name = client, store, name
        self._alone = alone
        self._tags = {SWEEP: name, CONTENT: content_id("sweep", content), **(tags or {})}
        self._source = source_tags()
        self._experiment = self._open_experiment(name)
        self.parent = self._open_parent(name) if only is None else self._known_parent()
        children = (run for run in self._children(only) if TRIAL in run.data.tags)
        self._logged = {run.data.tags[TRIAL]: _Logged(run.info.run_id, run.info.status) for run in children}
        self._dense: set[str] = set()
        if only is None:
            share_view(client, name)

    def log(self, outcome: Outcome) -> bool:
        """Log how a trial ended; returns False if that was logged already. Half-logged and failed runs are replaced."""
        known = self._logged.get(outcome.spec.id)
        if known is not None:
            if known.status in ("FINISHED", STATUS[outcome.state]):
                return False
            self._client.delete_run(known.run_id)
        if outcome.result is not None and not self._has_dense(outcome.spec.dense.id):
            with self._alone():
                self._log_dense(outcome.spec, outcome.result)
        run_id = self._create_child(outcome)
        if outcome.result is not None:
            self._log_result(run_id, outcome.spec, outcome.result)
        self._client.set_terminated(run_id, STATUS[outcome.state])
        self._logged[outcome.spec.id] = _Logged(run_id, STATUS[outcome.state])
        return True

    def finish(self, status: str, metrics: Mapping[str, float] | None = None, files: Iterable[Path] = ()) -> None:
        """Close the parent run: its tables and plots are artifacts, `status` one of MLflow's."""
        files = list(files)
        for path in files:
            self._client.log_artifact(self.parent, str(path), "report")
        for name, value in (metrics or {}).items():
            self._client.log_metric(self.parent, name, value)
        known = {path.name: path for path in files}
        if "summary.md" in known:
            figure = next(
                (f"report/{name}" for name in sorted(known) if name.startswith("overview") and name.endswith(".png")),
                None,
            )
            command = ui_command(self._store, self._name)
            note = sweep_note(known["summary.md"].read_text(encoding="utf-8"), self.parent, figure, command)
            self._client.set_tag(self.parent, NOTE, note)
            self._register()
        self._client.set_terminated(self.parent, status)
        share_view(self._client, self._name)

    def _register(self) -> None:
        """Register the best models of the study; see `register_best`."""
        from cspbench.report.results import load_results

        runs = {id: run.run_id for id, run in self._logged.items()}
        register_best(self._client, self._name, load_results(self._name, self._store), runs)

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
        found = self._find_parent()
        if found is not None:
            self._client.update_run(found, status="RUNNING")
            return found
        tags = self._tags | self._source | {KIND: "sweep"}
        return self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id

    def _known_parent(self) -> str:
        """Return the run of the sweep, which only the process of the sweep makes, opens and closes."""
        from mlflow.exceptions import MlflowException

        found = self._find_parent()
        if found is None:
            raise MlflowException(f"the sweep '{self._name}' has no run yet")
        return found

    def _find_parent(self) -> str | None:
        query = f"tags.`{CONTENT}` = '{self._tags[CONTENT]}' AND tags.`{KIND}` = 'sweep'"
        runs = self._client.search_runs([self._experiment], query, max_results=1)
        return runs[0].info.run_id if runs else None

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
        tags = self._tags | self._source | {KIND: "trial", TRIAL: spec.id, PARENT: self.parent}
        if outcome.error is not None:
            tags["cspbench.error"] = outcome.error[:5000]
        if outcome.stopped is not None:
            tags["cspbench.stopped"] = outcome.stopped
        if outcome.reason is not None:
            tags["cspbench.failure"] = outcome.reason
        if result is not None and result.latency is not None and (noise := result.latency.noise) is not None:
            tags["cspbench.latency"] = noise.verdict or ("quiet" if noise.conclusive else "noisy")
        name = f"{spec.method.name}-{spec.sparsity:g}-seed{spec.seed}"
        return self._create_run(name, tags, trial_params(spec), spec.dense.corpus, result.seconds if result else 0)

    def _create_run(
        self, name: str, tags: dict[str, str], params: dict[str, Any], corpus: CorpusSpec, seconds: float
    ) -> str:
        """Create a child of the parent run, with its parameters and the corpus it used."""
        from mlflow.entities import Param

        started = int(1000 * (time.time() - seconds))
        run_id = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=name).info.run_id
        self._client.log_batch(run_id, params=[Param(k, _text(v)) for k, v in params.items()])
        self._client.log_inputs(run_id, datasets=_datasets(corpus))
        return run_id

    def _log_dense(self, spec: TrialSpec, result: TrialResult) -> None:
        """Log the dense recogniser that a trial started from, unless another process just has.

        Its latency is that measured beside the trial. What a process left that died while it logged is replaced.
        """
        dense, folder = spec.dense, self._store.dense(spec.dense.id)
        if self._has_dense(dense.id):
            return
        for run in self._dense_runs(dense.id):
            self._client.delete_run(run.info.run_id)
        tags = self._tags | self._source | {KIND: "dense", DENSE: dense.id, PARENT: self.parent}
        params = {"method": "dense", "sparsity": 0.0, "seed": dense.seed, **_dense_params(spec)}
        run_id = self._create_run(f"dense-seed{dense.seed}", tags, params, dense.corpus, 0)
        self._log_metrics(run_id, dense_metrics(result), folder)
        for path in (folder.spec, folder.result):
            if path.is_file():
                self._client.log_artifact(run_id, str(path))
        self._client.set_terminated(run_id, "FINISHED")
        self._dense.add(dense.id)

    def _has_dense(self, id: str) -> bool:
        """Return whether a dense recogniser is logged, perhaps by another process."""
        if id not in self._dense and any(run.info.status == "FINISHED" for run in self._dense_runs(id)):
            self._dense.add(id)
        return id in self._dense

    def _dense_runs(self, id: str) -> list[Run]:
        query = f"tags.`{PARENT}` = '{self.parent}' AND tags.`{DENSE}` = '{id}'"
        return list(self._client.search_runs([self._experiment], query))

    def _log_metrics(
        self, run_id: str, values: Mapping[str, float], folder: ModelFolder, usage: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Log numbers, the training curve, that of single steps, and the use of the machine where it was recorded."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        for kind, path in (("curve", folder.curve), ("steps", folder.steps)):
            for record in thinned(rows_of(path)):
                metrics += [Metric(f"{kind}/{k}", v, now, record["step"]) for k, v in _numbers(record)]
        for record in thinned(usage):
            at = round(1000 * record["time"])
            metrics += [Metric(f"system/{k}", v, at, record["step"]) for k, v in _numbers(record) if k != "time"]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _log_result(self, run_id: str, spec: TrialSpec, result: TrialResult) -> None:
        from mlflow.entities import RunTag

        folder = self._store.trial(spec.id)
        self._log_metrics(run_id, trial_metrics(result), folder, rows_of(folder.usage))
        with TemporaryDirectory(prefix="cspbench-") as made:
            tags = _write_artifacts(Path(made), result, folder)
            self._client.log_artifacts(run_id, made)
        tags[NOTE] = trial_note(spec, result, self._store, run_id, FIGURE)
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for clip in folder.clips:
            self._client.log_artifact(run_id, str(clip), CLIPS)
        places = {folder.weights: "checkpoint", folder.model: "checkpoint", folder.spec: None, folder.result: None}
        for path, place in places.items():
            if path.is_file():
                self._client.log_artifact(run_id, str(path), place)


def _write_artifacts(place: Path, result: TrialResult, folder: TrialFolder) -> dict[str, str]:
    """Write the artifacts of a trial that are made for MLflow: the picture and the table of hypotheses.

    Returns:
        Tags that the run needs for them.
    """
    from cspbench.report.trial_figure import trial_picture

    picture = trial_picture(result.layer_sparsity, rows_of(folder.curve), rows_of(folder.steps))
    (place / FIGURE).write_bytes(picture)
    hypotheses = rows_of(folder.hypotheses)
    if not hypotheses:
        return {}
    # The UI compares runs by the first column unless told otherwise.
    first = ("hypothesis", "reference")
    columns = [*first, *(key for key in hypotheses[0] if key not in first)]
    table = {"columns": columns, "data": [[row.get(key) for key in columns] for row in hypotheses]}
    (place / HYPOTHESES).write_text(json.dumps(table), encoding="utf-8")
    # As `log_table` does, less its detour through pandas.
    return {"mlflow.loggedArtifacts": json.dumps([{"path": HYPOTHESES, "type": "table"}])}


def trial_params(spec: TrialSpec) -> dict[str, Any]:
    """Return what distinguishes a trial, flat.

    Hyperparameters stand under their method's name, as in Optuna, and under their own, so that runs of several methods
    can be compared by those they share.
    """
    given = {
        "method": spec.method.name,
        "sparsity": spec.sparsity,
        "seed": spec.seed,
        **{f"{spec.method.name}.{key}": value for key, value in spec.method.params.items()},
        "trial_id": spec.id,
        **_dense_params(spec),
        "epochs": spec.training.epochs,
        "learning_rate": spec.training.learning_rate,
        "batch_size": spec.training.batch_size,
        "prunable": ",".join(spec.prunable),
    }
    return dict(spec.method.params) | given


def trial_metrics(result: TrialResult) -> dict[str, float]:
    """Return the metrics of a result and their aliases."""
    metrics = result.metrics()
    return metrics | {alias: metrics[name] for alias, name in ALIASES.items() if name in metrics}


def dense_metrics(result: TrialResult) -> dict[str, float]:
    """Return the metrics of the dense recogniser behind a result, named as those of a trial."""
    own = {name.removeprefix("dense_"): value for name, value in result.metrics().items() if name.startswith("dense_")}
    own |= {"sparsity": 0.0, "sparsity_requested": 0.0, "wer_change": 0.0, "compression": 1.0, "speedup": 1.0}
    return own | {alias: own[name] for alias, name in ALIASES.items() if name in own}


def _dense_params(spec: TrialSpec) -> dict[str, Any]:
    dense = spec.dense
    given = {"dense_id": dense.id, "corpus": dense.corpus.name, "corpus_fingerprint": dense.corpus.fingerprint}
    given["model"] = dense.model.label
    if dense.pretrained is not None:
        return given | {"pretrained": dense.pretrained.path, "pretrained_fingerprint": dense.pretrained.fingerprint}
    return given | {"dense_seed": dense.seed, "dense_epochs": dense.training.epochs}


def _datasets(corpus: CorpusSpec) -> list[DatasetInput]:
    """Splits of a corpus as MLflow's datasets; they share the fingerprint of the corpus."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": corpus.path or corpus.name, "options": corpus.options}, sort_keys=True)
    contexts = {"train": "training", "dev": "selection", "test": "test"}
    return [
        DatasetInput(
            Dataset(f"{corpus.name} {split}", (corpus.fingerprint or "unknown")[:36], "local", source),
            [InputTag("mlflow.data.context", context)],
        )
        for split, context in contexts.items()
    ]


def thinned(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most about `CURVE_POINTS` records, evenly spread; those with a dev WER and the last one always stay."""
    every = max(1, -(-len(records) // CURVE_POINTS))
    last = len(records) - 1
    return [r for i, r in enumerate(records) if i % every == 0 or i == last or r.get("dev_wer") is not None]


def _numbers(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if key not in ("step", "epoch") and isinstance(value, (int, float)):
            yield key, float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
