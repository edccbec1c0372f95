"""The search space: grids are complete, samplers draw only what applies."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from cspbench.config import Choice, SweepConfig
from cspbench.hyper import Hyperparameters
from cspbench.pruning.registry import methods
from cspbench.store import Store
from cspbench.sweep.plan import resolve
from cspbench.sweep.space import MethodSpace, space_of

Configure = Callable[..., SweepConfig]


def test_a_grid_holds_every_combination_once_sparsity_by_sparsity(configure: Configure) -> None:
    entries = [{"name": "magnitude", "params": {"allocation": ["uniform", "global"], "end": 0.7}}, "csp"]
    space = space_of(configure(methods=entries))
    points = space.grid()
    assert points == [
        {"sparsity": 0.5, "method": "magnitude", "magnitude.allocation": "uniform"},
        {"sparsity": 0.5, "method": "magnitude", "magnitude.allocation": "global"},
        {"sparsity": 0.5, "method": "csp"},
        {"sparsity": 0.9, "method": "magnitude", "magnitude.allocation": "uniform"},
        {"sparsity": 0.9, "method": "magnitude", "magnitude.allocation": "global"},
        {"sparsity": 0.9, "method": "csp"},
    ]
    setting = space.setting(points[4])
    assert (setting.sparsity, setting.method.name) == (0.9, "magnitude")
    assert setting.method.params == methods.get("magnitude").Params(allocation="global", end=0.7).model_dump(
        mode="json"
    )


def test_an_explicit_list_names_a_method_several_times(configure: Configure) -> None:
    entries = [
        {"name": "csp", "params": {"damping": 0.02}, "sparsity": [0.75, 0.9]},
        {"name": "csp", "params": {"damping": [0.02, 0.05]}, "sparsity": 0.9},
        "magnitude",
    ]
    space = space_of(configure(mode="fixed", methods=entries, sparsity=[0.5]))
    points = space.grid()
    assert points == [
        {"sparsity": 0.75, "method": "csp"},
        {"sparsity": 0.9, "method": "csp"},
        {"sparsity": 0.9, "method": "csp (2)", "csp (2).damping": 0.05},  # with 0.02 it is the one before
        {"sparsity": 0.5, "method": "magnitude"},
    ]
    settings = [space.setting(point) for point in points]
    assert [(s.method.name, s.sparsity, s.method.params.get("damping")) for s in settings] == [
        ("csp", 0.75, 0.02), ("csp", 0.9, 0.02), ("csp", 0.9, 0.05), ("magnitude", 0.5, None),
    ]  # fmt: skip
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point, setting in zip(points, settings, strict=True):
        study.enqueue_trial(point)
        assert space.suggest(study.ask()) == setting


def test_the_trials_of_a_grid_are_known_beforehand_cell_by_cell(configure: Configure, store: Store) -> None:
    entry = {"name": "magnitude", "params": {"end": [0.5, 0.6, 0.7]}}
    plan = resolve(configure(mode="cells", methods=["csp", entry], trials=2), store, print)
    assert [(s.sparsity, s.method.name, s.method.params["end"]) for s in plan.grid_specs() if s.sparsity == 0.9] == [
        (0.9, "csp", 0.6), (0.9, "magnitude", 0.5), (0.9, "magnitude", 0.6),
    ]  # fmt: skip
    assert list(plan.searches()) == ["demo/csp/0.5", "demo/magnitude/0.5", "demo/csp/0.9", "demo/magnitude/0.9"]


def test_hyperparameters_not_named_keep_their_default(configure: Configure) -> None:
    space = space_of(configure(methods=["csp"]))
    assert space.setting(space.grid()[0]).method.params == methods.get("csp").Params().model_dump(mode="json")


def test_a_sampler_draws_each_methods_own_hyperparameters_only(configure: Configure) -> None:
    entries = [
        {"name": "csp", "params": {"damping": {"low": 1e-3, "high": 1e-1, "log": True}, "interval": [5, 10]}},
        {"name": "magnitude", "params": {"interval": {"low": 3, "high": 9}}},
    ]
    config = configure(methods=entries, sampler="random", trials=30, sparsity={"low": 0.3, "high": 0.8})
    space, study = space_of(config), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = set()
    for _ in range(30):
        trial = study.ask()
        setting = space.suggest(trial)
        assert 0.3 <= setting.sparsity <= 0.8
        own = {name for name in trial.params if name.startswith(f"{setting.method.name}.")}
        assert trial.params.keys() == {"sparsity", "method"} | own
        drawn.add(setting.method.name)
        if setting.method.name == "csp":
            assert 1e-3 <= setting.method.params["damping"] <= 1e-1
            assert setting.method.params["interval"] in (5, 10)
        else:
            assert setting.method.params["interval"] in range(3, 10)
            assert isinstance(setting.method.params["interval"], int)
        study.tell(trial, 0.0)
    assert drawn == {"csp", "magnitude"}


def test_values_optuna_cannot_store_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    class Params(Hyperparameters):
        layers: tuple[int, ...] = (1,)

    monkeypatch.setitem(methods._items, "lists", type("Lists", (), {"Params": Params}))
    space = MethodSpace("lists", {"layers": Choice(([1, 2], [3]))}, {})
    from cspbench.sweep.space import Space

    whole = Space(Choice((0.5,)), (space,))
    study = optuna.create_study()
    for point in whole.grid():
        study.enqueue_trial(point)
    assert [whole.suggest(study.ask()).method.params["layers"] for _ in range(2)] == [[1, 2], [3]]
    assert [whole.setting(point).method.params["layers"] for point in whole.grid()] == [[1, 2], [3]]


DENSITY = {"encoder": {"low": 0.5, "high": 2, "log": True}, "prediction": {"low": 0.5, "high": 2}, "joint": [0.5, 1, 2]}


def test_optuna_searches_shares_over_encoder_prediction_network_and_joint(configure: Configure) -> None:
    entry = {"name": "magnitude", "params": {"allocation": "erk", "density": DENSITY}}
    space = space_of(configure(methods=[entry], sampler="tpe", trials=60, sparsity=[0.9]))
    seen = []

    def wer(trial: optuna.Trial) -> float:
        setting = space.suggest(trial)
        share = setting.method.params["density"]
        seen.append(setting)
        assert setting.method.params["allocation"] == "erk"
        return (share["encoder"] - 0.7) ** 2 + (share["prediction"] - 1.5) ** 2 + (share["joint"] - 2) ** 2

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(wer, n_trials=60)
    best = seen[study.best_trial.number].method.params
    assert best == methods.get("magnitude").Params(**best).model_dump(mode="json"), "a trial can be made of it"
    assert best["density"]["joint"] == 2
    assert best["density"]["encoder"] == pytest.approx(0.7, abs=0.2)
    assert best["density"]["prediction"] == pytest.approx(1.5, abs=0.2)
    names = {"magnitude.density.encoder", "magnitude.density.prediction", "magnitude.density.joint"}
    assert study.best_params.keys() == names | {"sparsity", "method"}


def test_a_grid_over_entries_of_a_mapping(configure: Configure) -> None:
    density = {"enc.*_hh": [0.5, 1.0], "joint": 2.0}
    entry = {"name": "magnitude", "params": {"allocation": ["uniform", "erk"], "density": density}}
    space = space_of(configure(methods=[entry], sparsity=[0.9]))
    points = space.grid()
    assert [(p["magnitude.allocation"], p["magnitude.density.enc.*_hh"]) for p in points] == [
        ("uniform", 0.5), ("uniform", 1.0), ("erk", 0.5), ("erk", 1.0),
    ]  # fmt: skip
    assert space.setting(points[2]).method.params["density"] == {"enc.*_hh": 0.5, "joint": 2.0}
    described = space.describe()["methods"]["magnitude"]
    assert described["axes"]["density.enc.*_hh"] == [0.5, 1.0]
    assert described["fixed"]["density.joint"] == 2.0
    assert not described["fixed"].keys() & described["axes"].keys()
