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


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "gp", "nsga2", "nsga3"])
def test_every_sampler_draws_within_the_space_and_goes_on_after_a_restart(
    configure: Configure, store: Store, sampler: str
) -> None:
    entries = [{"name": "csp", "params": {"damping": {"low": 1e-3, "high": 1e-1, "log": True}}}, "magnitude"]
    search = {
        "sampler": sampler,
        "sparsity": {"low": 0.3, "high": 0.9},
        "methods": entries,
        "objectives": ["wer", "size"],
    }
    drive(configure(trials=12, **search), store, count=6)
    drive(configure(trials=12, **search), store)
    drawn = [trial.params for trial in trials()]
    assert len({params["sparsity"] for params in drawn}) == 12
    assert {params["method"] for params in drawn} == {"csp", "magnitude"}
    assert all(0.3 <= params["sparsity"] <= 0.9 for params in drawn)
    assert all(1e-3 <= params["csp.damping"] <= 1e-1 for params in drawn if params["method"] == "csp")


def test_an_explicit_list_runs_each_setting_once(configure: Configure, store: Store) -> None:
    entries = [{"name": "csp", "params": {"damping": d}, "sparsity": [s]} for d, s in ((0.02, 0.5), (0.05, 0.9))]
    config = configure(mode="fixed", methods=[*entries, entries[0], "magnitude"], sparsity=[0.7])
    assert drive(config, store, count=2).remaining == 1
    assert drive(config, store).remaining == 0
    assert [(trial.params["method"], trial.params["sparsity"]) for trial in trials()] == [
        ("csp", 0.5), ("csp (2)", 0.9), ("magnitude", 0.7),
    ]  # fmt: skip
