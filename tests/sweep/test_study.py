"""The study behind a sweep, without trials: proposals answered at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from support.fake_studies import result

from cspbench.config import SweepConfig
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.plan import resolve
from cspbench.sweep.study import Study, open_study
from cspbench.trials.outcome import Outcome

Configure = Callable[..., SweepConfig]
RANGE = {"sampler": "tpe", "sparsity": {"low": 0.3, "high": 0.9}, "methods": ["csp"]}
MEMORY = optuna.storages.InMemoryStorage()
"""In place of databases, which take a test seconds."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in optuna.get_all_study_names(MEMORY):
        optuna.delete_study(study_name=name, storage=MEMORY)
    monkeypatch.setattr("cspbench.sweep.study._open_storage", lambda _: MEMORY)


def trials(name: str = "demo") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=MEMORY).trials


def open_(config: SweepConfig, store: Store) -> Study:
    return open_study(resolve(config, store, lambda _: None), store)


def wer(spec: TrialSpec) -> float:
    """More sparsity costs accuracy; latency of the made-up results falls with it: 0.1 + 1.1 (1 - sparsity) ms."""
    return 0.05 + spec.sparsity / 10


def drive(config: SweepConfig, store: Store, count: int = 1_000_000) -> Study:
    """Answer what the study proposes, `count` times at most."""
    study = open_(config, store)
    while study.remaining and count:
        count -= 1
        proposal = study.ask()
        specs = study._plan.specs(proposal.setting)
        study.tell(proposal.number, [Outcome(spec, result(spec, wer(spec))) for spec in specs])
    return study


def test_a_sampler_keeps_to_the_constraints(configure: Configure, store: Store) -> None:
    """Only above 75 % sparsity the latency is under 375 microseconds, and there the WER is worst."""
    search = RANGE | {"trials": 50}
    drive(configure(**search), store)
    drive(configure(name="bound", constraints=["latency_us <= 375", "size_mb <= 5"], **search), store)
    bound = trials("bound")
    assert all(set(trial.constraints) == {"latency_ms <= 0.375", "size_bytes <= 5000000"} for trial in bound)
    met = [max(trial.constraints.values()) <= 0 for trial in bound]
    assert met == [trial.params["sparsity"] >= 0.75 for trial in bound]
    assert sum(met) > 2 * sum(trial.params["sparsity"] >= 0.75 for trial in trials())
