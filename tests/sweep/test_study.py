"""The study behind a sweep, without trials: proposals answered at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from support.fake_studies import finish, result, spec

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.pruning.registry import methods
from cspbench.report.results import load_results
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.plan import resolve
from cspbench.sweep.study import Study, open_study
from cspbench.training.events import Event
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


def wer(spec: TrialSpec) -> float:
    """More sparsity costs accuracy; latency of the made-up results falls with it: 0.1 + 1.1 (1 - sparsity) ms."""
    return 0.05 + spec.sparsity / 10


def drive(config: SweepConfig, store: Store, count: int = 1_000_000) -> Study:
    """Answer what the study proposes, `count` times at most."""
    plan = resolve(config, store, lambda _: None)
    study = open_study(plan, store)
    while study.remaining and count:
        count -= 1
        proposal = study.ask()
        specs = plan.specs(proposal.setting)
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


CELLS = {"mode": "cells", "sparsity": [0.5, 0.9]}
DAMPING = {"damping": {"low": 1e-3, "high": 1e-1, "log": True}}


def test_every_cell_is_a_search_of_its_own_with_the_same_budget(configure: Configure, store: Store) -> None:
    entries = [{"name": "csp", "params": DAMPING}, {"name": "magnitude", "params": {"end": {"low": 0.4, "high": 0.8}}}]
    config = configure(methods=entries, sampler="tpe", trials=3, **CELLS)
    assert drive(config, store, count=7).remaining == 5
    assert drive(config, store).remaining == 0
    names = sorted(optuna.get_all_study_names(MEMORY))
    assert names == ["demo/csp/0.5", "demo/csp/0.9", "demo/magnitude/0.5", "demo/magnitude/0.9"]
    for name in names:
        _, method, sparsity = name.split("/")
        assert len({tuple(trial.params.values()) for trial in trials(name)}) == 3
        assert {(trial.params["method"], trial.params["sparsity"]) for trial in trials(name)} == {
            (method, float(sparsity))
        }


def test_a_cell_without_anything_to_search_ends_after_one_setting(configure: Configure, store: Store) -> None:
    config = configure(methods=["magnitude", {"name": "csp", "params": DAMPING}], sampler="tpe", trials=3, **CELLS)
    study = drive(config, store)
    assert (study.distinct, study.remaining) == (2 * 1 + 2 * 3, 0)


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        ({"name": "median", "startup": 1}, [9, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({"name": "median", "startup": 1, "warmup": 4}, [9, 4, 4, 4, 4, 4, 4, 4, 4]),
        ({"name": "halving", "factor": 3}, [9, 1, 1, 1, 1, 3, 1, 3, 1]),
        ({"name": "hyperband", "factor": 3}, None),
    ],
)
def test_rules_of_early_stopping(
    configure: Configure, store: Store, rule: dict[str, object], ends: list[int] | None
) -> None:
    """Trials of nine epochs that do equally well at all of them; the first is the best."""
    entry = {"name": "csp", "params": DAMPING}
    config = configure(
        mode="cells", sparsity=[0.5], methods=[entry], sampler="random", trials=9, prune={"epochs": 9},
        early_stopping=rule | {"metric": "dev_wer"},
    )  # fmt: skip
    plan = resolve(config, store, lambda _: None)
    study = open_study(plan, store)
    seen = []
    for rank in (0, 4, 8, 3, 7, 2, 6, 1, 5):
        proposal = study.ask()
        (spec,) = plan.specs(proposal.setting)
        for epoch in range(1, 10):
            found = {"epoch": float(epoch), "dev_wer": 0.1 + rank / 100, "dev_loss": 1.0}
            if study.should_stop(proposal.number, Event("prune", 10 * epoch, 90, evaluation=found)):
                study.tell(proposal.number, [Outcome(spec, stopped="here")])
                break
        else:
            study.tell(proposal.number, [Outcome(spec, result(spec, 0.1 + rank / 100))])
        seen.append(epoch)
    assert seen[0] == 9
    assert min(seen) < 9
    assert ends is None or seen == ends
    states = ["COMPLETE" if end == 9 else "PRUNED" for end in seen]
    assert [trial.state.name for trial in trials("demo/csp/0.5")] == states
    reopened = open_study(plan, store)
    assert (reopened.remaining, reopened.finished) == (0, 9)


def test_a_trial_judged_before_a_kill_is_judged_alike_after_it(configure: Configure, store: Store) -> None:
    config = configure(
        mode="cells", sparsity=[0.5], methods=[{"name": "csp", "params": DAMPING}], sampler="random", trials=3,
        early_stopping={"name": "median", "startup": 1},
    )  # fmt: skip
    plan = resolve(config, store, lambda _: None)
    drive(config, store, count=1)
    event = Event("prune", 10, 90, evaluation={"epoch": 1.0, "dev_wer": 0.2, "dev_loss": 1.0})
    first = open_study(plan, store)
    number = first.ask().number
    assert not first.should_stop(number, event), "no other trial has reported that epoch"
    again = open_study(plan, store)
    assert again.ask().number == number
    assert not again.should_stop(number, event)
    assert trials("demo/csp/0.5")[1].intermediate_values == {1: 1.0}


def earlier(store: Store) -> None:
    """An earlier study: csp at three dampings and two sparsities with two seeds each, a method more, and a control."""
    made = [("csp", s, {"damping": d}) for s in (0.5, 0.95) for d in (0.01, 0.02, 0.5)]
    for method, sparsity, params in [*made, ("lottery", 0.5, {}), ("control", 0.0, {})]:
        full = methods.get(method).Params(**params).model_dump(mode="json")
        for seed in (0, 1):
            trial = spec(method, sparsity, seed, params=full)
            finish(store, "earlier", trial, result(trial, 0.9, dev=0.1 + seed / 10))


@pytest.mark.parametrize("source", ["earlier", "csv"])
def test_a_warm_start_tells_the_sampler_what_fits_and_counts_for_nothing(
    configure: Configure, store: Store, tmp_path: Path, source: str
) -> None:
    """Of the seven settings two fit: 95 % lies outside the sparsities, a damping of 0.5 outside its range."""
    earlier(store)
    if source == "csv":
        source = str(tmp_path / "earlier.csv")
        load_results("earlier", store.root).to_csv(source, index=False)
    entries = [{"name": "csp", "params": DAMPING}, "magnitude"]
    bound = ["latency_us <= 500"]
    search = {**RANGE, "methods": entries, "objectives": ["wer", "size"], "constraints": bound, "warm_start": source}
    config = configure(trials=3, **search)
    study = open_study(resolve(config, store, lambda _: None), store)
    told = f"warm start from {source}: the sampler is told 2 of its 7 settings; the rest do not fit"
    assert (list(study.notes), study.remaining, study.finished) == ([told], 3, 0)
    assert drive(config, store).remaining == 0
    assert list(open_study(resolve(config, store, lambda _: None), store).notes) == []
    warm, own = trials()[:2], trials()[2:]
    assert [trial.params["csp.damping"] for trial in warm] == [0.01, 0.02]
    assert {trial.params["sparsity"] for trial in warm} == {0.5}
    size = result(spec("csp", 0.5), 0.9).size_bytes
    assert all(trial.values == pytest.approx([0.15, size]) for trial in warm), "the mean over seeds, of dev"
    assert all(trial.constraints == {"latency_ms <= 0.5": pytest.approx(0.65 / 0.5 - 1)} for trial in warm)
    assert len(own) == 3


def test_a_warm_start_makes_a_search_better_from_its_first_trials_on(configure: Configure, store: Store) -> None:
    """TPE begins with ten random trials, unless it is told of ten others."""
    for index in range(40):
        trial = spec("csp", round(0.3 + index * 0.015, 3), params=methods.get("csp").Params().model_dump(mode="json"))
        finish(store, "earlier", trial, result(trial, wer(trial)))
    drive(configure(trials=8, **RANGE), store)
    drive(configure(name="warm", trials=8, warm_start="earlier", **RANGE), store)
    cold = [trial.params["sparsity"] for trial in trials()]
    warm = [trial.params["sparsity"] for trial in trials("warm")[40:]]
    assert max(warm) < sum(cold) / len(cold), "less sparsity is better here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method,dev_wer\n", "has no column sparsity_requested"),
        ("method,sparsity_requested,dev_wer,params.damping\ncsp,0.5,0.1,-3\n", "line 2: Input should be greater than"),
        ("method,sparsity_requested,dev_wer\ncsp,half,0.1\n", "line 2: could not convert string to float: 'half'"),
    ],
)
def test_a_file_that_is_no_start_is_refused(
    configure: Configure, store: Store, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        drive(configure(trials=1, warm_start=str(file), **RANGE), store)


def test_a_study_that_is_not_there_is_named(configure: Configure, store: Store) -> None:
    earlier(store)
    with pytest.raises(ConfigError, match=r"no study 'erlier' under .*; did you mean 'earlier'"):
        drive(configure(trials=1, warm_start="erlier", **RANGE), store)


WIDE = {"sampler": "tpe", "sparsity": {"low": 0.3, "high": 0.9}}
NARROW = {"name": "csp", "params": {"damping": {"low": 0.01, "high": 0.05}, "interval": 10}}
GROWN = {"name": "csp", "params": {"damping": {"low": 0.005, "high": 0.06}, "interval": [5, 10]}}


def test_a_method_more_and_wider_ranges_go_on_with_the_study(configure: Configure, store: Store) -> None:
    narrow = configure(trials=4, methods=[NARROW, "magnitude"], constraints=["size_mb <= 5"], **WIDE)
    drive(narrow, store)
    before = trials()
    wider = {**WIDE, "sparsity": {"low": 0.2, "high": 0.95}, "methods": [GROWN, "lottery", "magnitude"]}
    config = configure(trials=40, constraints=["size_mb <= 5"], **wider)
    study = drive(config, store)
    assert list(study.notes) == ["the search space has changed: 4 settings that had finished are part of it"]
    assert study.remaining == 0
    after = trials()
    assert len(after) == 40
    for old, new in zip(before, after[:4], strict=True):
        added = {"csp.interval": 10} if old.params["method"] == "csp" else {}
        assert new.params == old.params | added
        assert (new.values, new.constraints, new.datetime_start) == (old.values, old.constraints, old.datetime_start)
    assert {trial.params["method"] for trial in after} == {"csp", "lottery", "magnitude"}
    assert {trial.params.get("csp.interval") for trial in after} == {None, 5, 10}
    assert min(trial.params["sparsity"] for trial in after) < 0.3
    assert list(drive(config, store).notes) == [], "changed once"


def test_a_grid_that_grows_runs_only_what_is_new(configure: Configure, store: Store) -> None:
    drive(configure(methods=["csp"], sparsity=[0.5, 0.9]), store, count=1)
    assert [trial.state.name for trial in trials()] == ["COMPLETE"]
    study = drive(configure(methods=["csp", "magnitude"], sparsity=[0.9, 0.5, 0.7]), store)
    assert (study.finished, study.remaining) == (1, 0)
    tried = [(trial.params["sparsity"], trial.params["method"]) for trial in trials()]
    assert len(set(tried)) == len(tried) == 6
    assert tried[0] == (0.5, "csp")


def test_a_grid_that_was_queued_as_a_whole_goes_on(configure: Configure, store: Store) -> None:
    """As by earlier versions; now points are queued one by one."""
    config = configure(methods=["csp"], sparsity=[0.5, 0.7, 0.9])
    drive(config, store, count=1)
    queued = optuna.load_study(study_name="demo", storage=MEMORY)
    queued.enqueue_trial({"sparsity": 0.7, "method": "csp"})
    drive(config, store)
    assert [(trial.params["sparsity"], trial.state.name) for trial in trials()] == [
        (0.5, "COMPLETE"),
        (0.7, "COMPLETE"),
        (0.9, "COMPLETE"),
    ]


def test_a_cell_more_leaves_the_others_alone(configure: Configure, store: Store) -> None:
    entry = {"name": "csp", "params": DAMPING}
    drive(configure(methods=[entry], sampler="tpe", trials=2, **CELLS), store)
    before = trials("demo/csp/0.9")
    more = CELLS | {"sparsity": [0.5, 0.7, 0.9]}
    study = drive(configure(methods=[entry, "magnitude"], sampler="tpe", trials=2, **more), store)
    assert study.finished == 4
    assert [trial.params for trial in trials("demo/csp/0.9")] == [trial.params for trial in before]
    assert len(optuna.get_all_study_names(MEMORY)) == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["magnitude"]}, "has tried settings that its sweep file no longer allows:\n  sparsity 0."),
        ({"methods": [{"name": "csp", "params": {"interval": 7}}]}, "no longer allows:\n  sparsity 0."),
        ({"sparsity": {"low": 0.85, "high": 0.9}}, "no longer allows:\n  sparsity 0."),
        ({"sampler": "random"}, "something else:\n  sampler.name: was tpe, is random"),
        (
            {"prune": {"epochs": 3}, "sparsity": [0.5]},
            "something else:\n  prune.epochs: was 12, is 3\n  space.sparsity",
        ),
        ({"constraints": ["size_mb <= 2"]}, "something else:\n  constraints: new"),
    ],
)
def test_what_would_mix_different_things_is_refused_and_changes_nothing(
    configure: Configure, store: Store, changes: dict[str, object], said: str
) -> None:
    config = configure(trials=3, **RANGE)
    drive(config, store, count=2)
    before = trials()
    with pytest.raises(ConfigError, match=re.escape(said)):
        drive(configure(trials=3, **RANGE | changes), store)
    assert trials() == before
    assert drive(config, store).remaining == 0, "the file as it was goes on"


@pytest.mark.parametrize("calls", range(13))
def test_a_merge_that_is_killed_is_finished_by_the_next_run(
    configure: Configure, store: Store, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at one of its writes; then with the grown file, or, in every other case, with the file as it was."""
    narrow = configure(trials=3, methods=[NARROW], **WIDE)
    drive(narrow, store)
    before = [(trial.params["sparsity"], trial.values) for trial in trials()]
    grown = configure(trials=4, methods=[GROWN, "magnitude"], **WIDE)
    writes = 0

    class Killed(BaseException):
        pass

    def deadly(name: str) -> Callable[..., object]:
        write = getattr(MEMORY, name)

        def written(*args: object, **options: object) -> object:
            nonlocal writes
            if writes == calls:
                raise Killed
            writes += 1
            return write(*args, **options)

        return written

    with monkeypatch.context() as patch:
        for name in ("create_new_study", "delete_study", "create_new_trial", "set_study_user_attr"):
            patch.setattr(MEMORY, name, deadly(name))
        with pytest.raises(Killed):
            drive(grown, store, count=0)
    drive(grown if calls % 2 else narrow, store)
    drive(grown, store)
    assert [(trial.params["sparsity"], trial.values) for trial in trials()[:3]] == before
    assert len(trials()) == 4
    assert optuna.get_all_study_names(MEMORY) == ["demo"]
