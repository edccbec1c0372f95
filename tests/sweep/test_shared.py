"""Sweeps that several machines share, on a real PostgreSQL and a real MLflow server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from rich.console import Console
from support import fake_trial
from support.fake_trial import calls
from support.stack import PASSWORD, Cable, MlflowServer, Postgres, postgres, processes

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.report.results import load_results
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.jobs import JobTable, StudyTakenError
from cspbench.sweep.plan import resolve
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.servers import Servers
from cspbench.sweep.worker import work
from cspbench.trials.progress import Lines

__all__ = ["postgres"]
Configure = Callable[..., SweepConfig]
LONG = 3600.0

SCRIPT = """
import sys, time
from support import fake_trial
real = fake_trial.run_trial
def slow(spec, store, **options):
    fake_trial.train_dense(spec.dense, store)
    time.sleep(0.4)
    return real(spec, store, **options)
fake_trial.run_trial = slow
fake_trial.install()
from cspbench.sweep import sync
sync.SHORTEST = 0.5
from cspbench.cli import main
sys.argv = ["cspbench", *sys.argv[1:]]
main()
"""


@pytest.fixture
def servers(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Servers:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return Servers.of(f"postgresql://cspbench@127.0.0.1:{postgres.port}/postgres", None)


@pytest.fixture
def specs(configure: Configure, store: Store) -> list[TrialSpec]:
    return resolve(configure(), store, print).grid_specs()


@pytest.fixture
def table(servers: Servers, request: pytest.FixtureRequest) -> Iterator[JobTable]:
    assert servers.storage is not None
    table = JobTable(servers.storage, request.node.name, grace=LONG)
    table.make_tables(lambda: None)
    table.announce({"grace": LONG})
    yield table
    table.close()


def test_a_job_belongs_to_one_worker_until_that_is_lost(table: JobTable, specs: list[TrialSpec]) -> None:
    for spec in specs[:2]:
        table.submit(spec)
        table.submit(spec)
    assert [table.take(worker) for worker in ("a", "b", "c")] == [specs[0], specs[1], None]
    assert table.take("a") == specs[0], "the answer may have been lost"
    table.beat("b")
    assert table.alive() == 1
    table.grace = -LONG  # nobody is heard of in time
    assert table.take("c") == specs[0]
    table.grace = LONG
    assert not table.holds("a", specs[0].id)
    assert not table.finish("a", specs[0].id, {"result": {"by": "a"}})
    assert table.finish("c", specs[0].id, {"result": {"by": "c"}})
    table.leave("b")
    assert table.take("d") == specs[1]
    assert table.finish("d", specs[1].id, {"result": None, "error": "no", "reason": "crashed"})
    ended = table.ended([spec.id for spec in specs])
    assert ended[specs[0].id]["result"] == {"by": "c"}
    assert ended[specs[1].id]["error"] == "no"
    table.submit(specs[0])
    table.submit(specs[1])
    assert table.take("e") == specs[1], "what failed is run again, what finished is not"


def test_a_trial_that_loses_its_workers_fails(table: JobTable, specs: list[TrialSpec]) -> None:
    table.submit(specs[0])
    table.grace = -LONG
    for worker in ("a", "b", "c"):
        assert table.take(worker) == specs[0]
    assert table.take("d") is None
    ended = table.ended([specs[0].id])[specs[0].id]
    assert (ended["reason"], ended["error"]) == ("killed", "its worker was lost 3 times")


def test_one_process_runs_a_sweep(table: JobTable, servers: Servers) -> None:
    assert servers.storage is not None
    other = JobTable(servers.storage, table.sweep)
    with table.claim(), pytest.raises(StudyTakenError, match="another process runs the sweep"), other.claim():
        pytest.fail("claimed twice")
    with other.claim():
        pass
    other.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("postgresql://me:secret@host/db", None), "use PGPASSWORD"),
        ((None, "http://me:secret@host:5000"), "use MLFLOW_TRACKING_USERNAME"),
        (("mysql://host/db", None), "must be a postgresql:// database, not mysql"),
        ((None, "sqlite:///x.db"), "http://HOST:PORT"),
    ],
)
def test_addresses_are_checked_and_passwords_never_shown(options: tuple[str | None, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Servers.of(*options)
    assert "secret" not in str(caught.value)


def test_a_password_in_the_environment_goes_where_mlflow_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000")
    assert Servers.of(None, None).tracking == "https://host:5000"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "secret")


def test_a_shared_sweep_grows_where_it_was_started(
    configure: Configure, servers: Servers, tmp_path: Path, fake_trials: Callable[..., None]
) -> None:
    """Elsewhere a sweep of its name is another."""

    def run_trial(spec: TrialSpec, store: Store, **options: Any) -> TrialResult:
        fake_trial.train_dense(spec.dense, store)
        return fake_trial.run_trial(spec, store, **options)

    fake_trials(run_trial)
    assert servers.storage is not None
    quiet, table = Lines(Console(quiet=True)), JobTable(servers.storage, "grown")
    table.make_tables(lambda: None)

    def run(home: str, **changes: Any) -> list[str]:
        ran: list[str] = []
        store = Store(tmp_path / home)

        def join() -> None:
            while (sweep := table.find()) is None or not sweep.open:
                time.sleep(0.1)
            ran.extend(outcome.spec.id for outcome in work("grown", store, servers, quiet, patience=60))

        worker = Thread(target=join, daemon=True)
        worker.start()
        run_sweep(configure(name="grown", methods=["csp"], **changes), store, quiet, servers=servers)
        worker.join()
        return ran

    assert len(run("here", sparsity=[0.5])) == 1
    assert len(run("here", sparsity=[0.5, 0.7, 0.9])) == 2
    assert (load_results("grown", tmp_path / "here")["state"] == "complete").tolist() == [True] * 3
    with pytest.raises(ConfigError, match="holds another sweep named 'grown'"):
        run_sweep(configure(name="grown", methods=["magnitude"]), Store(tmp_path / "there"), quiet, servers=servers)
    with pytest.raises(ConfigError, match="has tried settings that its sweep file no longer allows"):
        run_sweep(
            configure(name="grown", methods=["csp"], sparsity=[0.9]), Store(tmp_path / "here"), quiet, servers=servers
        )


@pytest.mark.timeout(900)  # half a minute on a quiet machine
def test_workers_on_several_machines_survive_everything(
    configure: Configure, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shared disk. One worker is killed, connections are cut, both servers are restarted: all is there, once."""
    mlflow, cable = MlflowServer(tmp_path), Cable(postgres.port)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    config = configure(sparsity=[0.4, 0.5, 0.6, 0.7, 0.8])
    file = tmp_path / "sweep.yaml"
    file.write_text(config.model_dump_json())
    roots = [tmp_path / name for name in ("home", "one", "two", "three")]
    place = ["--storage", f"postgresql://cspbench@127.0.0.1:{cable.port}/postgres", "--tracking-uri", mlflow.address]
    commands = [["sweep", str(file), "--grace", "15"], *[["worker", "demo", "--device", "cpu"]] * 3]

    def finished() -> int:
        return sum(1 for root in roots[1:] for _ in root.glob("trials/*/result.json"))

    def until(count: int) -> None:
        while finished() < count:
            assert home.poll() is None, logs()
            time.sleep(0.05)

    def logs() -> str:
        return "\n".join(path.read_text() for path in sorted(tmp_path.glob("log-*")))

    with processes() as started:
        try:
            mlflow.wait()
            for root, words in zip(roots, commands, strict=True):
                with (tmp_path / f"log-{root.name}").open("w") as log:
                    command = [sys.executable, "-c", SCRIPT, *words, *place, "--root", str(root)]
                    tests = Path(fake_trial.__file__).parents[1]
                    started.append(subprocess.Popen(command, cwd=tests, stdout=log, stderr=log, text=True))
            home, workers = started[0], dict(zip(roots[1:], started[1:], strict=True))
            seen = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in started]
            until(2)
            lost = next(root for root in roots[1:] if calls(root))  # at work, or about to be
            os.kill(workers.pop(lost).pid, signal.SIGKILL)
            cable.cut()
            mlflow.stop()
            time.sleep(3)
            cable.mend()
            mlflow.start()
            until(6)
            postgres.restart()
            assert [process.wait(600) for process in (home, *workers.values())] == [0, 0, 0], logs()
            mlflow.wait()
            client = MlflowClient(mlflow.address)
            experiment = client.get_experiment_by_name("demo")
            runs = list(client.search_runs([experiment.experiment_id], "tags.`cspbench.kind` = 'trial'"))
            (parent,) = client.search_runs([experiment.experiment_id], "tags.`cspbench.kind` = 'sweep'")
            weights = client.list_artifacts(runs[0].info.run_id, "checkpoint")
        finally:
            cable.close()
            mlflow.stop()
    store = Store(roots[0])
    frame = load_results("demo", store.root)
    assert len(frame) == 10
    assert (frame["state"] == "complete").all()
    assert [run.info.status for run in (parent, *runs)] == ["FINISHED"] * 11, logs()
    assert {run.data.tags["cspbench.trial_id"] for run in runs} == set(frame["trial_id"])
    assert {item.path for item in weights} == {"checkpoint/model.json", "checkpoint/model.safetensors"}
    address = f"postgresql+psycopg://cspbench:{PASSWORD}@127.0.0.1:{postgres.port}/postgres"
    trials = optuna.load_study(study_name="demo", storage=address).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 10
    work = Counter(id for root in roots[1:] for id in calls(root))
    assert sorted(work.values())[:-2] == [1] * 8, "only what the killed worker had, or all were cut from, ran again"
    shown = [logs(), *seen, *(str(run.data.tags) + str(run.data.params) for run in (parent, *runs))]
    assert not [text for text in shown if PASSWORD in text]
