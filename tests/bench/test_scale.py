"""Costs of a sweep, with simulated trials: all of them go through the real sweep, and are said to be simulated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.fake_studies import spec

from cspbench.bench import scale
from cspbench.bench.simulated_trials import DENSE_WER, simulated_result


@pytest.mark.timeout(900)
def test_simulated_trials_go_through_a_whole_sweep() -> None:
    lines: list[str] = []
    found = scale.run(trials=[3], mlflow=False, workers=2, say=lines.append)
    (row,) = found.rows
    assert row["trials"] == 3
    assert 0 < row["ask_ms"] + row["tell_ms"] <= row["trial_ms"]
    assert row["mlflow_ms"] < row["ask_ms"]
    assert row["tpe_ms"] > 0
    assert row["tpe_two_ms"] > 0
    assert row["simulated_s"] > 3 * 60, "as long as real trials"
    assert row["peak_mb"] > 100
    assert set(found.ratios) >= {"growth_trial", "growth_ask", "growth_tpe", "workers"}
    assert all("SIMULATED" in line for line in lines)
    assert found.protocol["trials"].startswith("SIMULATED")


def test_a_simulated_result_is_plausible_and_says_what_it_is() -> None:
    dense, sparse = simulated_result(spec(sparsity=0.0)), simulated_result(spec(sparsity=0.95))
    assert DENSE_WER < dense.dev.wer < sparse.dev.wer < 1
    assert sparse.metrics()["latency_ms"] < dense.metrics()["latency_ms"]
    assert sparse.size_bytes < dense.size_bytes
    assert dense == simulated_result(spec(sparsity=0.0))
    assert dense.device == "SIMULATED"


@pytest.mark.parametrize("trials", ["0", "100,10", "1.5,x"])
def test_numbers_of_trials_are_checked(trials: str, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("bench", "scale", "--trials", trials)
    assert code == 2
    assert "--trials takes numbers" in err
