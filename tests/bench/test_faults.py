"""The benchmark of faults on a stand-in for training: a sweep that is killed, locked out and short of space."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_trial
from support.studies import configure, corpus

from cspbench.bench import faults
from cspbench.config import SweepConfig
from cspbench.errors import ConfigError

__all__ = ["configure", "corpus"]

SCRIPT = f"""
import os, sys, time
sys.path.insert(0, {str(Path(fake_trial.__file__).parents[1])!r})
from support import fake_trial
from cspbench.trials import executors
real = fake_trial.run_trial
def heavy(spec, store, **options):
    time.sleep(0.3)
    return real(spec, store, **options)
fake_trial.run_trial = heavy
fake_trial.install()
from cspbench.cli import main
if __name__ == "__main__":  # worker processes import this as well
    if "RAY_ADDRESS" in os.environ:
        from support.fake_ray import connect
        connect(os.environ["RAY_ADDRESS"])
    from cspbench.report import write
    executors.serve = fake_trial.serve
    write.write_report = lambda name, store: []  # figures take seconds
    sys.argv = ["cspbench", *sys.argv[1:]]
    main()
"""


@pytest.fixture
def sweep(configure: Callable[..., SweepConfig], tmp_path: Path) -> dict[str, Any]:
    """A sweep of three trials, and the command that runs it with a stand-in for training."""
    file, script = tmp_path / "sweep.yaml", tmp_path / "start.py"
    file.write_text(configure(sparsity=[0.5, 0.7, 0.9], methods=["csp"]).model_dump_json())
    script.write_text(SCRIPT)
    return {"file": file, "command": [sys.executable, str(script)]}


@pytest.mark.timeout(900)
def test_nothing_is_lost_repeated_or_different(sweep: dict[str, Any]) -> None:
    lines: list[str] = []
    found = faults.run(**sweep, kills=2, seed=3, only_kills=True, say=lines.append)
    counts = {name: found.ratios[name] for name in ("lost", "duplicated", "differs", "kills")}
    assert counts == {"lost": 0, "duplicated": 0, "differs": 0, "kills": 2}, found.rows
    assert len([line for line in lines if line.startswith("kill ")]) == 2


@pytest.mark.timeout(900)
def test_a_lost_ray_node_loses_nothing(sweep: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="RAY ABSENT: pip install 'cspbench[ray]'")
    under_test = faults.Faults(sweep["file"], tmp_path / "faults", 2, 0, print, sweep["command"])
    under_test.undisturbed()
    under_test.lost_node()
    (row,) = under_test.rows
    what = json.loads(row.pop("what"))
    assert row == {"fault": "lost Ray node", "lost": 0, "duplicated": 0, "differs": 0}
    assert what["exit code"] == 0
    assert under_test.tally.tracebacks == 0


@pytest.mark.slow  # ten sweeps, two minutes of locks and a server
@pytest.mark.timeout(3600)
def test_locked_databases_full_disks_and_absent_servers_lose_nothing(sweep: dict[str, Any]) -> None:
    found = faults.run(**sweep, kills=0)
    assert found.ratios == dict.fromkeys(("lost", "duplicated", "differs", "tracebacks", "kills"), 0), found.rows
    locked, full, absent, *_ = (json.loads(row["what"]) for row in found.rows)
    assert locked["exit code"] == absent["exit code"] == 0
    assert full["exit codes"][0] == 1
    assert full["exit codes"][-1] == 0
    assert absent["sync"].startswith("demo: 3 trials logged in http://127.0.0.1:")


def test_a_database_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert faults._query(tmp_path / "none?.db", "SELECT 1") == []
    assert not list(tmp_path.iterdir())


def test_what_was_measured_by_a_clock_is_not_compared() -> None:
    result = {"dev": {"edits": 3}, "latency": {"median_ms": 1}, "train_seconds": 2.0, "sparsity": 0.5}
    assert faults._timeless(result) == {"dev": {"edits": 3}, "sparsity": 0.5}


def test_a_missing_sweep_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such sweep file"):
        faults.run(file=tmp_path / "none.yaml")
