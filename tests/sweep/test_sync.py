"""MLflow that is gone for a while: the sweep goes on, says what is missing, and `sync` logs it later."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console
from support.fake_trial import calls

from cspbench.config import SweepConfig
from cspbench.store import Store
from cspbench.sweep import runner, sync
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.tracking import open_client
from cspbench.trials.progress import Lines

Configure = Callable[..., SweepConfig]
pytestmark = pytest.mark.usefixtures("fake_trials")


def runs_of(store: Store) -> dict[str, list[str]]:
    """Statuses of the runs of the study, by kind; those of dense models left out."""
    client = open_client(store)
    experiment = client.get_experiment_by_name("demo")
    found: dict[str, list[str]] = {"sweep": [], "trial": []}
    for run in client.search_runs([experiment.experiment_id]):
        if run.data.tags["cspbench.kind"] != "dense":
            found[run.data.tags["cspbench.kind"]].append(run.info.status)
    return {kind: sorted(states) for kind, states in found.items()}


def test_a_sweep_without_mlflow_goes_on_and_is_logged_later(
    configure: Configure,
    store: Store,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes away while the second trial is being logged, by half."""
    monkeypatch.setattr(sync, "SHORTEST", 0.01)
    terminate = MlflowClient.set_terminated
    count = 0

    def gone(client: MlflowClient, *args: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise MlflowException("no route to host")
        terminate(client, *args, **options)

    shown = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", gone)
        summary = run_sweep(configure(sparsity=[0.13, 0.5]), store, Lines(Console(file=shown, width=200)))
    assert len(summary.ended) == 4
    assert len(calls(store.root)) == 4
    lines = shown.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("MLflow cannot be reached (no route to host)")]) == 1
    command = f"cspbench sync demo --root {store.root}"
    assert lines[-1] == f"MLflow lacks 3 trials and the end of this run; `{command}` logs them when it is back"
    for logged in (3, 0):
        assert run(*command.split()[1:])[:2] == (0, f"demo: {logged} trials logged in {store.mlflow}\n")
        assert runs_of(store) == {"sweep": ["FAILED"], "trial": ["FAILED"] * 2 + ["FINISHED"] * 2}


def test_mlflow_that_comes_back_is_told_everything(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "SHORTEST", 0.01)
    count = 0

    def open_later(*args: Any) -> MlflowClient:
        nonlocal count
        count += 1
        if count < 4:
            raise MlflowException("not yet")
        return open_client(*args)

    monkeypatch.setattr(sync, "open_client", open_later)
    run_sweep(configure(), store, display)
    assert runs_of(store) == {"sweep": ["FINISHED"], "trial": ["FINISHED"] * 4}


def test_the_process_of_a_sweep_excludes_others_while_it_logs_the_dense_recogniser(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    @contextmanager
    def alone() -> Iterator[None]:
        held.append(len(calls(store.root)))
        yield

    monkeypatch.setattr(runner, "Logbook", partial(sync.Logbook, alone=alone))
    run_sweep(configure(), store, display)
    assert held == [1]


def test_nothing_to_sync_is_said(store: Store, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("sync", "demo", "--root", tmp_path)
    assert code == 2
    assert "has nothing to log of 'demo'" in err
