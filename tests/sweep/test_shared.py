"""Sweeps that several machines share, on a real PostgreSQL and a real MLflow server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url
from support import fake_trial
from support.fake_trial import calls
from support.stack import PASSWORD, Cable, MlflowServer, Postgres, postgres, processes

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.report.results import load_results
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep import worker as workers
from cspbench.sweep.database import DatabaseError
from cspbench.sweep.early import SharedJudge
from cspbench.sweep.jobs import JobTable, SharedSweep, StudyTakenError
from cspbench.sweep.plan import resolve
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.servers import Servers
from cspbench.sweep.shared import DatabaseExecutor
from cspbench.sweep.worker import work
from cspbench.training.events import Event
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Lines

__all__ = ["postgres"]
Configure = Callable[..., SweepConfig]
RunShared = Callable[[SweepConfig, Store], list[Outcome]]
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
    table.submit(specs[2])
    assert table.take("d") == specs[2]
    assert table.finish("d", specs[2].id, {"result": None, "error": None, "reason": None, "stopped": "step 1"})
    table.submit(specs[2])
    table.submit(specs[0])
    table.submit(specs[1])
    assert table.take("e") == specs[1], "what failed is run again"
    assert table.take("f") is None, "what finished or was stopped early is not"


def test_a_worker_looks_for_trials_less_and_less_often_until_there_is_one(
    specs: list[TrialSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([*[None] * 10, specs[0], None, None])
    pauses: list[float] = []
    table = Mock(take=lambda worker: next(found))
    table.find.side_effect = [SharedSweep({}, True, 0.0)] * 11 + [SharedSweep({}, False, 0.0)]
    monkeypatch.setattr(workers, "_pause", pauses.append)
    assert list(workers._trials(table, "a", patience=60)) == [specs[0]]
    first, after = pauses[:10], pauses[10:]
    assert first == sorted(first)
    assert first[-1] == workers.LONGEST
    assert after == [first[0]] == [workers.SHORTEST]


def test_trials_that_end_at_the_same_time_are_all_collected(
    table: JobTable, specs: list[TrialSpec], store: Store
) -> None:
    executor = DatabaseExecutor(table, store, print)
    for spec, worker in zip(specs[:2], ("a", "b"), strict=True):
        executor.submit(spec)
        assert table.take(worker) == spec
        assert table.finish(worker, spec.id, {"result": None, "error": "no", "reason": "crashed"})
    ended = []
    while executor.busy:
        ended.append(executor.wait().spec.id)
    assert sorted(ended) == sorted(spec.id for spec in specs[:2])


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


def test_one_worker_at_a_time_is_alone(table: JobTable, servers: Servers) -> None:
    assert servers.storage is not None
    order: list[str] = []
    began = threading.Event()

    def second() -> None:
        other = JobTable(servers.storage, table.sweep)
        began.set()
        with other.alone():
            order.append("second")
        other.close()

    worker = threading.Thread(target=second, daemon=True)
    with table.alone():
        worker.start()
        began.wait()
        time.sleep(0.5)
        order.append("first")
    worker.join()
    assert order == ["first", "second"]


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


def test_trials_are_run_by_workers_or_by_ray(
    configure: Configure, servers: Servers, store: Store, display: Lines
) -> None:
    with pytest.raises(ConfigError, match="`cspbench worker` runs the trials: leave it out, or `executor: ray`"):
        run_sweep(configure(executor="ray"), store, display, servers=servers)


def test_a_password_in_the_environment_goes_where_mlflow_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000")
    assert Servers.of(None, None).tracking == "https://host:5000"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "secret")


@pytest.fixture
def run_shared(servers: Servers, display: Lines, fake_trials: Callable[..., None]) -> RunShared:
    """Run a sweep and one worker of it, here and in one store; return how the worker's trials ended."""

    def run_trial(spec: TrialSpec, store: Store, **options: Any) -> TrialResult:
        fake_trial.train_dense(spec.dense, store)
        return fake_trial.run_trial(spec, store, **options)

    fake_trials(run_trial)
    assert servers.storage is not None

    def run(config: SweepConfig, store: Store) -> list[Outcome]:
        ended: list[Outcome] = []
        table = JobTable(servers.storage, config.name)
        table.make_tables(lambda: None)

        def join() -> None:
            while (sweep := table.find()) is None or not sweep.open:
                time.sleep(0.1)
            ended.extend(work(config.name, store, servers, display, patience=60))

        worker = threading.Thread(target=join, daemon=True)
        worker.start()
        run_sweep(config, store, display, servers=servers)
        worker.join()
        table.close()
        return ended

    return run


def test_a_shared_sweep_grows_where_it_was_started(
    configure: Configure, servers: Servers, store: Store, tmp_path: Path, display: Lines, run_shared: RunShared
) -> None:
    """Elsewhere a sweep of its name is another."""

    def grown(**changes: Any) -> SweepConfig:
        return configure(**{"name": "grown", "methods": ["csp"]} | changes)

    assert len(run_shared(grown(sparsity=[0.5]), store)) == 1
    assert len(run_shared(grown(sparsity=[0.5, 0.7, 0.9]), store)) == 2
    assert (load_results("grown", store)["state"] == "complete").tolist() == [True] * 3
    with pytest.raises(ConfigError, match="holds another sweep named 'grown'"):
        run_sweep(grown(methods=["magnitude"]), Store(tmp_path / "there"), display, servers=servers)
    with pytest.raises(ConfigError, match="has tried settings that its sweep file no longer allows"):
        run_sweep(grown(sparsity=[0.9]), store, display, servers=servers)


def test_workers_stop_trials_early_by_what_the_shared_study_knows(
    configure: Configure, servers: Servers, store: Store, run_shared: RunShared
) -> None:
    """In the order of the grid: the second and the last do worse than those before."""
    config = configure(
        name="early",
        mode="cells",
        sparsity=[0.5],
        methods=[{"name": "csp", "params": {"damping": [0.02, 0.05, 0.01, 0.04]}}],
        early_stopping={"name": "median", "startup": 1},
    )
    states = [outcome.state for outcome in run_shared(config, store)]
    assert states == ["complete", "stopped", "complete", "stopped"]
    assert load_results("early", store)["state"].tolist() == states
    assert servers.storage is not None
    study = optuna.load_study(study_name="early/csp/0.5", storage=servers.storage.render_as_string(hide_password=False))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert study.trials[1].intermediate_values == {1: pytest.approx(0.1 + 0.05)}


def test_a_trial_goes_on_unjudged_while_the_study_is_gone(
    configure: Configure, specs: list[TrialSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And always if it is in no search, as the control is."""
    judge = SharedJudge(configure(mode="cells", early_stopping="median"), make_url("sqlite://"))
    event = Event("prune", 1, 2, evaluation={"epoch": 1.0, "dev_loss": 1.0})
    judge(specs[0].model_copy(update={"sparsity": 0.0}), event)

    asked = []

    def gone(*, study_name: str, **_: Any) -> None:
        asked.append(study_name)
        raise DatabaseError("it could not be reached")

    monkeypatch.setattr(optuna, "load_study", gone)
    judge(specs[0], event)
    assert len(asked) == 1


@pytest.mark.timeout(1800)  # half a minute on a quiet machine, two minutes with eight workers
@pytest.mark.parametrize(
    ("workers", "cut", "grace"), [(3, 3, 15), pytest.param(8, 20, 45, marks=pytest.mark.slow)], ids=["three", "eight"]
)
def test_workers_on_several_machines_survive_everything(
    configure: Configure,
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    cut: float,
    grace: float,
) -> None:
    """No shared disk. One worker is killed, connections are cut, both servers are restarted: all is there, once."""
    mlflow, cable = MlflowServer(tmp_path), Cable(postgres.port)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name, total = f"demo-{workers}", 4 * workers
    config = configure(name=name, sparsity=[round(0.4 + index / 100, 2) for index in range(2 * workers)])
    file = tmp_path / "sweep.yaml"
    file.write_text(config.model_dump_json())
    roots = [tmp_path / name for name in ("home", *(f"worker-{index}" for index in range(workers)))]
    place = ["--storage", f"postgresql://cspbench@127.0.0.1:{cable.port}/postgres", "--tracking-uri", mlflow.address]
    commands = [["sweep", str(file), "--grace", str(grace)], *[["worker", name, "--device", "cpu"]] * workers]

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
            home, others = started[0], dict(zip(roots[1:], started[1:], strict=True))
            seen = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in started]
            until(2)
            lost = next(root for root in roots[1:] if calls(root))  # at work, or about to be
            os.kill(others.pop(lost).pid, signal.SIGKILL)
            cable.cut()
            mlflow.stop()
            time.sleep(cut)
            cable.mend()
            mlflow.start()
            until(6 * total // 10)
            postgres.restart()
            assert [process.wait(900) for process in (home, *others.values())] == [0] * workers, logs()
            mlflow.wait()
            client = MlflowClient(mlflow.address)
            experiment = client.get_experiment_by_name(name)
            runs = list(client.search_runs([experiment.experiment_id]))
            trial_runs = [run for run in runs if run.data.tags["cspbench.kind"] == "trial"]
            weights = client.list_artifacts(trial_runs[0].info.run_id, "checkpoint")
        finally:
            cable.close()
            mlflow.stop()
    store = Store(roots[0])
    frame = load_results(name, store.root)
    assert len(frame) == total
    assert (frame["state"] == "complete").all()
    kinds = Counter(run.data.tags["cspbench.kind"] for run in runs)
    assert kinds == {"sweep": 1, "dense": 1, "trial": total}, logs()
    assert {run.info.status for run in runs} == {"FINISHED"}, logs()
    assert {run.data.tags["cspbench.trial_id"] for run in trial_runs} == set(frame["trial_id"])
    assert {item.path for item in weights} == {"checkpoint/model.json", "checkpoint/model.safetensors"}
    address = f"postgresql+psycopg://cspbench:{PASSWORD}@127.0.0.1:{postgres.port}/postgres"
    trials = optuna.load_study(study_name=name, storage=address).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * total
    work = Counter(id for root in roots[1:] for id in calls(root))
    again = total - 2  # only what the killed worker had, or all were cut from, ran again
    assert sorted(work.values())[:again] == [1] * again
    shown = [logs(), *seen, *(str(run.data.tags) + str(run.data.params) for run in runs)]
    assert not [text for text in shown if PASSWORD in text]
