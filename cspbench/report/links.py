"""Links from the page of a study to the runs of its trials in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.report.sources import trial_runs
from cspbench.trials.records import ResultsError

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RunLinks:
    """Addresses of the runs of a study in MLflow's UI.

    Attributes:
        server: address of the MLflow server, without user and password.
        runs: address of the run of each trial, by trial id.
    """

    server: str
    runs: Mapping[str, str]


def run_links(client: MlflowClient, study: str, server: str) -> RunLinks:
    """Look up the runs of a study on an MLflow server; of several runs of a trial, the one started last.

    Args:
        client: of the server.
        study: its name.
        server: address under which people open it, without user and password: it is written into pages.

    Raises:
        ResultsError: the server cannot be read, or nothing of the study is logged there.
    """
    from mlflow.exceptions import MlflowException

    server = server.rstrip("/")
    try:
        experiment = client.get_experiment_by_name(study)
        runs = list(trial_runs(client, experiment.experiment_id)) if experiment is not None else []
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ResultsError(f"MLflow at {server} cannot be read: {reason}") from error
    if not runs:
        logs = f"`cspbench sync {study} --tracking-uri {server}` logs it"
        raise ResultsError(f"no trial of the study '{study}' is logged in MLflow at {server}; {logs}")
    addresses = {
        run.data.tags["cspbench.trial_id"]: f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        for run in runs
    }
    return RunLinks(server, addresses)
