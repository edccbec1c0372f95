"""Files that start sweeps on clusters: a Slurm script, Kubernetes manifests, and a stack of containers run natively."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stack import PASSWORD, Postgres, free_port, postgres, processes
from support.studies import configure, corpus

from cspbench.config import SweepConfig

__all__ = ["configure", "corpus", "postgres"]

REPO = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STACK = yaml.safe_load((REPO / "docker" / "compose.cluster.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((REPO / "cluster" / "kubernetes.yaml").read_text()))
CONTAINERS = [each["spec"]["template"]["spec"]["containers"][0] for each in MANIFESTS if each["kind"] == "Job"]
COMMANDS = [container["args"] for container in CONTAINERS]
COMMANDS += [STACK["services"][name]["command"] for name in ("sweep", "worker")]


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (130, True)])
def test_a_slurm_task_that_was_stopped_queues_up_again(code: int, requeued: bool, tmp_path: Path) -> None:
    """With stand-ins for Slurm's programs and for cspbench."""
    told = tmp_path / "told"
    for name, line in (("srun", 'exec "$@"'), ("scontrol", f'echo "$@" >> {told}'), ("cspbench", f"exit {code}")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "SLURM_JOB_ID": "42"}
    done = subprocess.run(["bash", REPO / "cluster" / "slurm.sh", "an4"], env=environment, check=False)
    assert done.returncode == code
    assert (told.read_text() == "requeue 42\n") if requeued else not told.exists()


def test_slurm_gives_time_to_save_a_checkpoint() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", (REPO / "cluster" / "slurm.sh").read_text(), re.M))
    signal, seconds = options["signal"].split("@")
    assert signal == "TERM"
    assert int(seconds) >= 60
    assert "requeue" in options


def test_manifests_are_what_kubernetes_takes() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="KUBERNETES SCHEMAS ABSENT")
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_commands_exist(run: Callable[..., tuple[int, str, str]]) -> None:
    for command, *words in COMMANDS:
        code, shown, _ = run(command, "--help")
        assert code == 0
        assert all(word in shown for word in words if word.startswith("--"))


def test_no_password_is_written_down() -> None:
    for container in CONTAINERS:
        for variable in container["env"]:
            assert ("PASSWORD" in variable["name"]) == ("valueFrom" in variable)
    for service in STACK["services"].values():
        words = json.dumps([service.get("command"), service.get("entrypoint")])
        assert "PASSWORD" not in words
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert re.fullmatch(r"\$\{\w+:\?\}", value), f"{name} does not come from the environment"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.timeout(900)  # a minute on a quiet machine
def test_the_stack_runs_a_sweep(configure: Callable[..., SweepConfig], postgres: Postgres, tmp_path: Path) -> None:
    """PostgreSQL, MLflow with passwords, the dashboard, two workers and one sweep, by the commands of the stack."""
    postgres.sql(STACK["configs"]["databases"]["content"])
    postgres.sql("CREATE DATABASE cspbench")
    ports = {"mlflow:5000": free_port(), "dashboard:8080": free_port()}
    config = configure(
        name="rnnt",
        sparsity=[0.5],
        model={"preset": "tiny"},
        dense={"epochs": 1},
        prune={"epochs": 1},
        latency={"utterances": 1, "warmup": 0, "repeats": 1},
    )
    (tmp_path / "rnnt.yaml").write_text(config.model_dump_json())
    values = {"POSTGRES_PASSWORD": PASSWORD, "MLFLOW_PASSWORD": "twelve-or-more", "MLFLOW_SECRET": "any text will do"}
    places = {
        "postgres:5432": f"127.0.0.1:{postgres.port}",
        "mlflow:5000": f"127.0.0.1:{ports['mlflow:5000']}",
        "127.0.0.1:5000": f"127.0.0.1:{ports['mlflow:5000']}",
        "0.0.0.0": "127.0.0.1",
        "/opt/cspbench/sweeps": str(tmp_path),
        "/data": str(tmp_path),
    } | {f"${{{name}:?}}": value for name, value in values.items()}

    def native(text: str) -> str:
        return re.sub("|".join(map(re.escape, places)), lambda found: places[found.group()], text)

    def start(name: str) -> subprocess.Popen[str]:
        service = STACK["services"][name]
        words = [native(word) for word in [*service.get("entrypoint", ["cspbench"]), *service["command"]]]
        if "--port" in words:
            place = words.index("--port") + 1
            words[place] = str(ports[f"{name}:{words[place]}"])
        environment = os.environ | {key: native(value) for key, value in service["environment"].items()}
        environment |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        folder = tmp_path / ("runs" if name == "mlflow" else ".")
        folder.mkdir(exist_ok=True)
        with (tmp_path / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [BIN / words[0], *words[1:]],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    def ask(address: str, user: str | None = None) -> Any:
        login = {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
        with urllib.request.urlopen(urllib.request.Request(address, headers=login), timeout=30) as answer:
            return json.load(answer)

    def wait_for(address: str, process: subprocess.Popen[str], log: str) -> None:
        while True:
            assert process.poll() is None, (tmp_path / log).read_text()
            with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=30):
                return
            time.sleep(0.3)

    with processes() as started:
        mlflow = start("mlflow")
        server = f"http://127.0.0.1:{ports['mlflow:5000']}"
        wait_for(f"{server}/health", mlflow, "mlflow.log")
        query = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=rnnt"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(query)
        last = [start("sweep"), start("worker"), start("worker")]
        codes = [process.wait(600) for process in last]
        assert codes == [0, 0, 0], (tmp_path / "sweep.log").read_text() + (tmp_path / "worker.log").read_text()
        experiment = ask(query, "admin:twelve-or-more")["experiment"]
        assert experiment["artifact_location"].startswith("mlflow-artifacts:/")
        dashboard = start("dashboard")
        address = f"http://127.0.0.1:{ports['dashboard:8080']}"
        wait_for(address, dashboard, "dashboard.log")
        assert [study["study_name"] for study in ask(f"{address}/api/studies")["study_summaries"]] == ["rnnt"]
        for process in (mlflow, dashboard):
            process.terminate()
            process.wait(60)
    assert len(list((tmp_path / "runs" / "trials").glob("*/result.json"))) == 2
    for path in tmp_path.glob("*.log"):
        assert PASSWORD not in path.read_text()
        assert "twelve-or-more" not in path.read_text()
