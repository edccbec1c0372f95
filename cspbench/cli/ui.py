"""``cspbench ui``."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.options import Root, output
from cspbench.cli.sweep import RUNS
from cspbench.errors import ConfigError, did_you_mean

DASHBOARD_PORT = 8080
HOST = "127.0.0.1"
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes for features that nothing here uses
}


def ui(
    name: Annotated[
        str | None,
        typer.Argument(help="The study to link to; all of them if left out.", autocompletion=completion.studies),
    ] = None,
    root: Root = RUNS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open MLflow's UI on the results, on this machine only. Ctrl-C ends it.

    Prints the address of each study: its trials, best first, with their charts.

    Examples: `cspbench ui`, `cspbench ui smoke`, `cspbench ui smoke --port 5001`
    """
    from cspbench.store import Store
    from cspbench.sweep.tracking import database_uri, open_client
    from cspbench.sweep.view import share_views

    store = Store(root)
    if not (store.mlflow / "mlflow.db").exists():
        raise ConfigError(f"nothing is logged under {store.root} yet: run `cspbench sweep`, or give another --root")
    paths = share_views(open_client(store))
    if name is not None and name not in paths:
        raise ConfigError(f"no study '{name}' is logged under {store.root}{did_you_mean(name, list(paths))}")
    address = f"http://{HOST}:{port}"
    for study, path in paths.items():
        if name in (None, study):
            output().print(f"{study}: {address}{path}", soft_wrap=True)
    output().print(f"{address} (Ctrl-C ends it)", soft_wrap=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database_uri(store)]
    # Artifacts are read where their experiment says they are; a default under the working folder is never used.
    command += ["--default-artifact-root", (store.mlflow / "artifacts").as_uri(), "--no-serve-artifacts"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    sys.stdout.flush()
    # In place of this process, so that Ctrl-C and a container's stop reach the server itself.
    os.execve(sys.executable, command, {**SETTINGS, **os.environ})  # noqa: S606 - no shell wanted


def dashboard(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    root: Root = RUNS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = DASHBOARD_PORT,
) -> None:
    """Open Optuna's dashboard on the search of a sweep, on this machine only. Ctrl-C ends it.

    Needs the package optuna-dashboard: `pip install 'cspbench[dashboard]'`.

    Examples: `cspbench dashboard smoke`, `cspbench dashboard smoke --port 8081`
    """
    from cspbench.store import Store
    from cspbench.sweep.database import sqlite_url

    store = Store(root)
    path = store.study(name).optuna
    if not path.is_file():
        raise ConfigError(
            f"{store.root} holds no search of a sweep named '{name}'{did_you_mean(name, store.studies())}"
        )
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ConfigError("optuna-dashboard is not installed: pip install 'cspbench[dashboard]'")
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", sqlite_url(path)]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--host", HOST, "--port", str(port)])  # noqa: S606 - no shell wanted
