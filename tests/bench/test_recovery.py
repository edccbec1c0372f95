from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch

from cspbench.bench import interleaved, median_ratio, recovery
from cspbench.cli import main
from cspbench.errors import CspbenchError

pytest.importorskip("sklearn")


def test_every_solver_is_as_accurate_as_its_peer() -> None:
    signals = recovery.make_signals(24, 160, 8, 0.5, seed=3)
    theirs = recovery.peers(signals)
    bound = recovery.lasso_gap(signals, theirs["lasso"]())["gap"]
    for name, solve in recovery.lasso_solvers(signals).items():
        assert recovery.lasso_gap(signals, solve())["gap"] <= bound, name
    least = recovery.misfit(signals, theirs["omp"]())["misfit"]
    for name, solve in recovery.greedy_solvers(signals).items():
        assert recovery.misfit(signals, solve())["misfit"] <= least * 1.05, name
    assert torch.allclose(theirs["lasso"](), theirs["lars"](), atol=1e-2)
    assert torch.allclose(theirs["omp"](), theirs["omp_one_call"](), atol=1e-5)


def test_the_duality_gap_vanishes_at_the_solution_only() -> None:
    signals = recovery.make_signals(4, 80, 4, 0.5, seed=0)
    solution = recovery.lasso_solvers(signals)["fista"]()
    assert 0 <= recovery.lasso_gap(signals, solution)["gap"] < 1e-4
    assert recovery.lasso_gap(signals, 0.9 * solution)["gap"] > 1e-2


def test_turns_are_paired() -> None:
    heard: list[str] = []
    times = interleaved({name: lambda name=name: heard.append(name) for name in "ab"}, repeats=2)
    assert "".join(heard) == "ababab"  # the first turn warms up
    assert [len(t) for t in times.values()] == [2, 2]
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == 4.0


def test_the_command_prints_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cspbench", "bench", "recovery", "--rows", "4", "--nonzeros", "8", "--repeats", "1", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rows", "ratios", "protocol"}
    solvers = {"ista", "fista", "admm", "amp", "iht", "htp", "cosamp", "omp"}
    assert solvers < {row["solver"] for row in found["rows"]}
    assert {f"ours/sklearn@{solver}" for solver in solvers} < set(found["ratios"])
    assert found["protocol"]["rows"] == 4


def test_without_the_peer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CspbenchError, match="pip install scikit-learn"):
        recovery.peers(recovery.make_signals(2, 20, 2, 0.5, seed=0))
