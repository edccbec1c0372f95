"""Costs of a sweep, with simulated trials: all of them go through real sweeps, and are said to be simulated."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from sqlalchemy import create_engine, text
from support.fake_studies import spec
from support.stack import PASSWORD, Postgres, postgres

from cspbench.bench import Benchmark, overhead_sweep
from cspbench.bench.simulated_trials import DENSE_WER, simulated_result
from cspbench.bench.timed_trials import TimedTrials, Times, idle_seconds, throughput
from cspbench.sweep.servers import Servers

__all__ = ["postgres"]


@pytest.mark.timeout(900)
def test_trials_that_take_no_time_go_through_a_whole_sweep() -> None:
    row = overhead_sweep._in_own_process(overhead_sweep._measure_size, 3, "random", False)
    assert row["trials"] == 3
    assert 0 < row["ask_ms"] + row["tell_ms"] <= row["trial_ms"]
    assert row["mlflow_ms"] < row["ask_ms"]
    assert row["tpe_ms"] > 0
    assert row["tpe_two_ms"] > 0
    assert row["report_s"] > 0
    assert row["simulated_s"] > 3 * 60, "as long as real trials"
    assert row["driver_mb"] > 100


@pytest.mark.slow  # four sweeps, eight workers
@pytest.mark.timeout(1800)
def test_real_workers_are_measured_on_both_databases(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    storage = Servers.of(f"postgresql://cspbench@127.0.0.1:{postgres.port}/postgres", None).storage
    assert storage is not None
    lines: list[str] = []
    found = overhead_sweep.run(trials=[3], storage=storage, seconds=0.2, each=2, say=lines.append)
    workers = found.rows[:3]
    places = [(row["storage"], row["workers"], row["trials"]) for row in workers]
    assert places == [("sqlite", 1, 2), ("sqlite", 2, 4), ("postgresql", 4, 8)]
    for row in workers:
        assert row["overhead_s"] > 0
        assert 0 < row["mlflow_ms"] < row["trial_ms"]
    names = {"overhead_s/sqlite", "overhead_s/postgresql", "speedup/two_workers", "speedup/two_processes"}
    names |= {"driver_s/3", "driver_mb/3", "growth/trial", "growth/ask", "growth/tpe", "workers"}
    assert set(found.ratios) >= names
    assert all("SIMULATED" in line for line in lines)
    assert found.protocol["trials"].startswith("SIMULATED")
    engine = create_engine(storage)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM cspbench_jobs")) == 0, "the database is left as it was"
    engine.dispose()
    assert optuna.get_all_study_names(storage.render_as_string(hide_password=False)) == []


def test_pauses_and_throughput_are_those_of_each_worker() -> None:
    """A starts late and is alone at the end: neither counts. B has one trial: nothing follows it."""
    a = [Times(1, 100, 104, 4), Times(1, 105, 109, 3), Times(1, 110, 118, 4)]
    b = [Times(2, 10, 14, 4)]
    assert idle_seconds([a, b]) == 1
    assert throughput([a, b]) == pytest.approx((4 + 3) / 10)
    assert throughput([a, a]) == pytest.approx(2 * throughput([a]))


def test_a_timed_trial_takes_about_as_long_as_it_should() -> None:
    trials = TimedTrials(10.0)
    lengths = [trials.length(spec(sparsity=sparsity)) for sparsity in (0.5, 0.6, 0.7)]
    assert all(8 <= length <= 12 for length in lengths)
    assert len(set(lengths)) == 3
    assert lengths[0] == trials.length(spec(sparsity=0.5))


def test_a_simulated_result_is_plausible_and_says_what_it_is() -> None:
    dense, sparse = simulated_result(spec(sparsity=0.0)), simulated_result(spec(sparsity=0.95))
    assert DENSE_WER < dense.dev.wer < sparse.dev.wer < 1
    assert sparse.metrics()["latency_ms"] < dense.metrics()["latency_ms"]
    assert sparse.size_bytes < dense.size_bytes
    assert dense == simulated_result(spec(sparsity=0.0))
    assert dense.device == "SIMULATED"


@pytest.mark.parametrize("trials", ["0", "100,10", "1.5,x"])
def test_numbers_of_trials_are_checked(trials: str, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("bench", "overhead-sweep", "--trials", trials)
    assert code == 2
    assert "--trials takes " in err


def test_rows_of_other_columns_are_tables_of_their_own(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def measure(**options: Any) -> Benchmark:
        given.update(options)
        rows = [{"storage": "sqlite", "overhead_s": 0.25}, {"trials": 100, "driver_s": 3.0}]
        return Benchmark(rows, {"overhead_s/sqlite": 0.25})

    monkeypatch.setattr(overhead_sweep, "run", measure)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    code, out, _ = run("bench", "overhead-sweep", "--trials", "10,20", "--mlflow")
    assert code == 0
    assert (given["trials"], given["mlflow"], given["storage"]) == ([10, 20], True, None)
    workers, sizes, ratios = (out.index(word) for word in ("storage", "driver_s", "overhead_s/sqlite"))
    assert workers < sizes < ratios
    _, out, _ = run("bench", "overhead-sweep", "--json", "--storage", "postgresql://me@host/name")
    assert json.loads(out)["ratios"] == {"overhead_s/sqlite": 0.25}
    assert given["storage"].host == "host"
