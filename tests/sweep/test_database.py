"""Databases of sweeps: made in one piece, under any root, and refused in words when they are old."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy import make_url
from support.fake_studies import result, spec
from support.full_disk import largest_file

from cspbench.config import SweepConfig
from cspbench.store import Store
from cspbench.sweep import servers
from cspbench.sweep.database import DatabaseError, create_database, sqlite_url
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.tracking import Tracker, open_client, ui_command
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Lines

Configure = Callable[..., SweepConfig]
ODD = ["runs?", "my%20runs", "50% done", "a#b;c", "{x}"]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_root_keeps_everything_under_itself(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    for file in ("optuna.db", "mlflow.db"):
        create_database(root / file, lambda address: optuna.storages.RDBStorage(address))
    study = optuna.create_study(storage=sqlite_url(root / "optuna.db"), study_name="demo")
    assert optuna.load_study(storage=sqlite_url(root / "optuna.db"), study_name="demo")._study_id == study._study_id
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in root.iterdir() if path.name[0] != "."} == {"optuna.db", "mlflow.db"}


def test_mlflow_under_an_odd_root(tmp_path: Path, mlflow_database: Path) -> None:
    store = Store(tmp_path / "50% done?")
    store.mlflow.mkdir(parents=True)
    (store.mlflow / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    Tracker(open_client(store), store, "demo", {"a": 1}).log(Outcome(spec(), result(spec(), 0.1)))
    assert [path.name for path in tmp_path.iterdir()] == [store.root.name]
    assert ui_command(store, "demo") == f"cspbench ui demo --root '{store.root}'"


def test_a_process_killed_while_it_makes_a_database_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    code = f"""
import os, signal, sqlite3
from pathlib import Path
from sqlalchemy import make_url
from cspbench.sweep.database import create_database
def make(address):
    database = sqlite3.connect(make_url(address).database)
    database.execute("create table half (x)")
    database.commit()
    os.kill(os.getpid(), signal.SIGKILL)
create_database(Path({str(path)!r}), make)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not path.exists()
    create_database(path, lambda address: optuna.storages.RDBStorage(address))
    with sqlite3.connect(path) as database:
        tables = {row[0] for row in database.execute("select name from sqlite_master")}
    assert "trials" in tables
    assert "half" not in tables


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study in a database for which sqlite itself does not wait."""
    monkeypatch.setattr(servers, "SQLITE_TIMEOUT", 0.0)
    path = tmp_path / "optuna.db"
    create_database(path, lambda address: optuna.storages.RDBStorage(address))
    return optuna.create_study(storage=servers.PatientStorage(make_url(sqlite_url(path))))


def test_a_study_waits_for_a_locked_database(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)
    pauses = []

    def release(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            lock.execute("ROLLBACK")

    monkeypatch.setattr(servers.time, "sleep", release)
    lock.execute("BEGIN EXCLUSIVE")
    study.tell(study.ask(), 0.5)
    assert pauses == [0.5, 1.0]
    assert [trial.value for trial in study.trials] == [0.5]
    lock.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(servers, "PATIENCE", 0.0)
    with pytest.raises(DatabaseError, match=r"optuna\.db could not be reached for 0 seconds \(database is locked\)"):
        study.ask()
    lock.close()


def test_a_study_on_a_full_disk_says_so_at_once(study: optuna.Study, tmp_path: Path) -> None:
    trial, path = study.ask(), tmp_path / "optuna.db"

    def fill() -> None:
        for index in range(1000):
            trial.set_user_attr(f"note {index}", "x" * 2000)

    with largest_file(path.stat().st_size), pytest.raises(DatabaseError, match=r"optuna\.db cannot be used .*space"):
        fill()
    study.tell(trial, 0.5)
    assert [trial.value for trial in study.trials] == [0.5]


def test_a_database_is_made_once(tmp_path: Path) -> None:
    made: list[str] = []

    def make(address: str) -> None:
        made.append(address)
        optuna.storages.RDBStorage(address)

    for _ in range(2):
        create_database(tmp_path / "some.db", make)
    assert len(made) == 1


@pytest.mark.usefixtures("fake_trials")
@pytest.mark.parametrize("schema", ["v2.6.0.a", "v99.0.0.a"])
def test_a_study_of_another_optuna_is_one_line(configure: Configure, store: Store, display: Lines, schema: str) -> None:
    run_sweep(configure(trials=1), store, display)
    path = store.study("demo").optuna
    with sqlite3.connect(path) as database:
        database.execute("update alembic_version set version_num = ?", (schema,))
    with pytest.raises(DatabaseError) as caught:
        run_sweep(configure(trials=1), store, display)
    assert str(caught.value) == (
        f"{path} was made by another version of Optuna. If that is a newer one, install it. If it is an older one, "
        f"back the file up and upgrade it, then start again (finished trials are reused): cp {path} {path}.backup && "
        f"optuna storage upgrade --storage sqlite+pysqlite:///{path}"
    )


def test_a_link_to_a_missing_database_is_damage_and_makes_no_file(tmp_path: Path) -> None:
    link = tmp_path / "some.db"
    link.symlink_to(tmp_path / "gone.db")
    with pytest.raises(DatabaseError, match=r"some\.db is damaged \(unable to open"):
        create_database(link, lambda address: None)
    assert not (tmp_path / "gone.db").exists()


def test_a_database_of_another_mlflow_is_one_line(store: Store) -> None:
    path = store.mlflow / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("update alembic_version set version_num = 'acf3f17fdcc7'")
    with pytest.raises(
        DatabaseError, match=r"was made by another version of MLflow.* && mlflow db upgrade sqlite\+pysqlite:///"
    ):
        open_client(store)
