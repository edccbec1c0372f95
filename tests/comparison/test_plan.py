"""The trials a comparison plans: budgets, dense seeds, tuning cells, the control, and the open division."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cspbench.comparison.config import ComparisonConfig
from cspbench.comparison.plan import ComparisonPlan, Subset, resolve_comparison
from cspbench.store import Store

Plan = Callable[..., ComparisonPlan]


@pytest.fixture
def plan(corpus: dict[str, Any], store: Store) -> Plan:
    """Resolve a comparison of two methods at two sparsities and budgets, from two dense models."""

    def make(**changes: Any) -> ComparisonPlan:
        data = {
            "name": "demo",
            "corpora": [{"label": "noise", "corpus": corpus, "prune": {"epochs": 2, "evaluate_every": 2}}],
            "sparsity": [0.9, 0.5],
            "budgets": [1, 4],
            "dense_seeds": [5, 6],
            "seeds": [1],
            "methods": ["csp", "magnitude"],
        }
        return resolve_comparison(ComparisonConfig.model_validate(data | changes), store, print)

    return make


def test_every_method_runs_at_every_budget_from_every_dense_model(plan: Plan) -> None:
    tasks = plan(seeds=[1, 2], control=False).final_tasks({})
    runs = [(t.budget, t.spec.sparsity, t.spec.dense.seed, t.spec.seed, t.method) for t in tasks]
    assert runs == [
        (budget, sparsity, dense, seed, method)
        for budget in (1, 4)
        for sparsity in (0.9, 0.5)
        for dense in (5, 6)
        for seed in (1, 2)
        for method in ("csp", "magnitude")
    ]
    assert len({task.spec.dense.id for task in tasks}) == 2
    assert {(task.budget, task.spec.training.epochs, task.spec.training.evaluate_every) for task in tasks} == {
        (1, 2, 2),
        (4, 8, 8),
    }


def test_the_control_runs_once_a_budget_and_seed(plan: Plan) -> None:
    tasks = [task for task in plan().final_tasks({}) if task.method == "control"]
    assert [(task.budget, task.spec.dense.seed) for task in tasks] == [(1, 5), (1, 6), (4, 5), (4, 6)]
    assert {(task.spec.sparsity, task.spec.method.name) for task in tasks} == {(0.0, "control")}
    only = plan().final_tasks({}, Subset(frozenset({"control"}), budgets=frozenset({4.0})))
    assert [task.method for task in only] == ["control"] * 2


def test_a_budget_may_run_a_part_of_the_methods_and_sparsities(plan: Plan) -> None:
    budgets = [1, {"times": 12, "sparsity": [0.975], "methods": ["csp"]}]
    tasks = plan(budgets=budgets, dense_seeds=[5], control=False).final_tasks({})
    long = [(task.method, task.spec.sparsity) for task in tasks if task.budget == 12]
    assert long == [("csp", 0.975)]
    assert len(tasks) == 5


def test_parts_of_one_budget_add_up_and_a_run_of_two_of_them_comes_once(plan: Plan, corpus: dict[str, Any]) -> None:
    corpora = [{"label": label, "corpus": corpus, "prune": {"epochs": 2}} for label in ("noise", "again")]
    parts = [
        {"times": 1, "sparsity": [0.9], "methods": ["csp"]},
        {"times": 1, "sparsity": [0.9, 0.5], "corpora": ["again"]},
    ]
    tasks = plan(corpora=corpora, budgets=parts, dense_seeds=[5]).final_tasks({})
    assert [(task.corpus, task.method, task.spec.sparsity) for task in tasks] == [
        ("noise", "control", 0.0),
        ("again", "control", 0.0),
        ("noise", "csp", 0.9),
        ("again", "csp", 0.9),
        ("again", "magnitude", 0.9),
        ("again", "csp", 0.5),
        ("again", "magnitude", 0.5),
    ]


def test_settings_come_from_the_nearest_density_and_budget(plan: Plan) -> None:
    tuning = {"trials": 2, "at": [0.9, 0.5], "budgets": [1, 12], "seed": 0}
    methods = ["csp", {"name": "magnitude", "tune": {"end": [0.4, 0.6, 0.8]}}]
    made = plan(tuning=tuning, methods=methods, sparsity=[0.95, 0.6], budgets=[1, 4, 12])
    cells = {(run.sparsity, run.budget): made.cell_of(run) for run in made.planned_runs() if run.entry.tuned}
    assert cells == {
        (0.95, 1.0): ("magnitude", 0.9, 1.0),
        (0.6, 1.0): ("magnitude", 0.5, 1.0),
        (0.95, 4.0): ("magnitude", 0.9, 12.0),
        (0.6, 4.0): ("magnitude", 0.5, 12.0),
        (0.95, 12.0): ("magnitude", 0.9, 12.0),
        (0.6, 12.0): ("magnitude", 0.5, 12.0),
    }
    assert Counter((task.budget, task.spec.sparsity) for task in made.tuning_tasks()) == {
        (budget, sparsity): 2 for budget in (1, 12) for sparsity in (0.9, 0.5)
    }
    assert {task.spec.dense.seed for task in made.tuning_tasks()} == {5}  # the first of the dense models


def test_cells_that_no_final_takes_a_setting_from_are_not_tuned(plan: Plan) -> None:
    tuning = {"trials": 2, "at": [0.9, 0.5], "budgets": [1, 12], "seed": 0}
    methods = [{"name": "csp", "tune": {"end": [0.4, 0.6, 0.8]}}]
    made = plan(tuning=tuning, methods=methods, sparsity=[0.9], budgets=[1])
    assert [cell.key for cell in made.cells] == [("csp", 0.9, 1.0)]


def test_every_tuned_method_tries_the_common_axes_and_learning_rates(plan: Plan) -> None:
    tuning = {
        **{"trials": 6, "at": [0.9], "seed": 0, "learning_rate": [0.5, 1, 2]},
        "every": {"end": [0.4, 0.6, 0.8], "allocation": ["global", "erk"]},
    }
    methods = [
        {"name": "csp", "tune": {}},
        {"name": "magnitude", "tune": {}, "params": {"end": 0.7}},
        {"name": "movement"},
    ]
    made = plan(tuning=tuning, methods=methods, budgets=[1], sparsity=[0.9])
    tasks = made.tuning_tasks()
    assert Counter(task.method for task in tasks) == {"csp": 6, "magnitude": 6}
    rate = made.config.corpora[0].prune.learning_rate
    assert {task.spec.training.learning_rate for task in tasks} <= {rate / 2, rate, 2 * rate}
    assert len({task.spec.training.learning_rate for task in tasks}) > 1
    assert tasks[0].spec.training.learning_rate == rate  # the default comes first
    ends = {m: {t.spec.method.params["end"] for t in tasks if t.method == m} for m in ("csp", "magnitude")}
    assert ends["magnitude"] == {0.7}  # fixed
    assert len(ends["csp"]) > 1
    assert {task.spec.method.params["allocation"] for task in tasks} == {"global", "erk"}


def test_the_open_division_may_change_the_pruning_run(plan: Plan) -> None:
    methods = ["csp", {"name": "set", "division": "open", "training": {"epochs": 40, "learning_rate": 0.002}}]
    tasks = plan(methods=methods, dense_seeds=[5], sparsity=[0.9], control=False).final_tasks({})
    runs = {(t.method, t.budget): (t.spec.training.epochs, t.spec.training.learning_rate) for t in tasks}
    assert runs["set", 1] == (40, 0.002)
    assert runs["set", 4] == (160, 0.002)
    assert runs["csp", 4][0] == 8


def test_ids_of_trials_are_those_of_a_file_without_budgets(plan: Plan, corpus: dict[str, Any], store: Store) -> None:
    before = ComparisonConfig.model_validate(
        {
            "name": "demo",
            "corpora": [{"corpus": corpus, "dense": {"seed": 5}, "prune": {"epochs": 2, "evaluate_every": 2}}],
            **{"sparsity": [0.9, 0.5], "seeds": [1], "methods": ["csp", "magnitude"], "control": False},
        }
    )
    old = {task.spec.id for task in resolve_comparison(before, store, print).final_tasks({})}
    new = {task.spec.id for task in plan().final_tasks({})}
    assert len(old) == 4
    assert old < new
