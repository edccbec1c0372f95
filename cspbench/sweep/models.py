"""The best models of a study in MLflow's registry, and how they are loaded from there."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from cspbench.errors import ConfigError
from cspbench.store import Store
from cspbench.sweep.notes import TRIAL

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from cspbench.asr.trained import TrainedModel

FOLDER = "checkpoint"
"""Artifact folder of a run that holds its model."""

BEST = "best"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


def load_model(uri: str, root: Store | Path | str = "runs") -> TrainedModel:
    """Load a trained recogniser from MLflow's registry.

    A sweep registers, under its own name, the trial with the best dev WER at each sparsity, as ``@sparsity-90`` for
    90 %, and the best of the pruned ones as ``@best``.

    Args:
        uri: ``models:/<study>/<version>`` or ``models:/<study>@<alias>``.
        root: folder of all results.

    Returns:
        The model with its tokenizer and front end, in evaluation mode, on the CPU.

    Raises:
        ConfigError: not such a URI, or nothing registered under it.

    Example:
        >>> import cspbench
        >>> cspbench.load_model("models:/smoke@sparsity-80").sample_rate
        16000
    """
    from mlflow.exceptions import MlflowException

    from cspbench.sweep.tracking import open_client
    from cspbench.training.checkpoint import load_model as load_folder

    found = _URI.fullmatch(uri)
    if found is None:
        raise ConfigError(f"'{uri}' names no model: give models:/STUDY/VERSION or models:/STUDY@ALIAS")
    store = Store(root)
    if not (store.mlflow / "mlflow.db").exists():
        raise ConfigError(f"nothing is registered under {store.root}: run `cspbench sweep`, or give another root")
    client, name = open_client(store), found["name"]
    try:
        if found["version"]:
            version = client.get_model_version(name, found["version"])
        else:
            version = client.get_model_version_by_alias(name, found["alias"])
    except MlflowException as error:
        raise ConfigError(f"no model '{uri}' under {store.root}: {error.message}") from None
    return load_folder(Path(url2pathname(urlparse(str(version.source)).path)))


def register_best(client: MlflowClient, name: str, frame: pd.DataFrame, runs: dict[str, str]) -> list[str]:
    """Register the models with the best dev WER of a study, each once; aliases follow the best.

    Args:
        client: of the database.
        name: of the study, and of the registered model.
        frame: its trials, as from `load_results`.
        runs: id of the run of each trial that is logged, by trial.

    Returns:
        The aliases that were set.
    """
    done = frame[(frame["state"] == "complete") & (frame["sparsity_requested"] > 0) & frame["trial_id"].isin(runs)]
    if done.empty:
        return []
    order = done.sort_values(["dev_wer", "dev_loss"], kind="stable")
    first = order.drop_duplicates("sparsity_requested")
    aliases = [alias_of(float(sparsity)) for sparsity in first["sparsity_requested"]]
    best = dict(zip([*aliases, BEST], [*map(str, first["trial_id"]), str(order["trial_id"].iloc[0])], strict=True))
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"Best models of the study {name}, by dev WER.")
    versions = {v.tags[TRIAL]: v.version for v in client.search_model_versions(f"name = '{name}'") if TRIAL in v.tags}
    rows = done.set_index("trial_id")
    for alias, trial in best.items():
        if trial not in versions:
            versions[trial] = _register(client, name, runs[trial], trial, rows.loc[[trial]].iloc[0])
        client.set_registered_model_alias(name, alias, versions[trial])
    return list(best)


def alias_of(sparsity: float) -> str:
    """Return the alias of the best model at a sparsity; MLflow allows no point in one."""
    return f"sparsity-{100 * sparsity:.4g}".replace(".", "_")


def _register(client: MlflowClient, name: str, run_id: str, trial: str, row: pd.Series) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "MLmodel"
        path.write_text(_description(run_id))
        client.log_artifact(run_id, str(path), FOLDER)
    source = f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}"
    shown = ("method", "sparsity", "test_wer", "size_bytes", "latency_ms")
    tags = {TRIAL: trial, **{key: f"{row[key]:.6g}" if key != "method" else str(row[key]) for key in shown}}
    return str(client.create_model_version(name, source, run_id, tags=tags).version)


def _description(run_id: str) -> str:
    """An ``MLmodel`` file, YAML of MLflow: the flavour, and the signature as the UI shows it."""
    tensor = {"dtype": "float32", "shape": [-1]}
    inputs = [{"name": "audio", "type": "tensor", "tensor-spec": tensor}]
    outputs = [{"name": "text", "type": "string", "required": True}]
    # JSON is YAML, and needs no library to write.
    return json.dumps(
        {
            "artifact_path": FOLDER,
            "run_id": run_id,
            "flavors": {"cspbench": {"loader": "cspbench.load_model", "weights": "model.safetensors"}},
            "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        },
        indent=2,
    )
