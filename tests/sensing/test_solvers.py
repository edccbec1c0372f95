"""What every solver promises: starts, stops, rows that do not mind each other, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from support.signals import correlations, distance, sparse_rows

from cspbench.sensing import (
    Dense,
    Gram,
    Identity,
    Operator,
    Recovery,
    admm,
    amp,
    cosamp,
    debias,
    debias_exact,
    fista,
    htp,
    iht,
    ista,
    keep_blocks,
    keep_n_of_m,
    keep_per_row,
    omp,
    random_operator,
)

COUNT = 5
Solver = Callable[..., Recovery]
SOLVERS: dict[str, Solver] = {
    "ista": lambda o, b, **more: ista(o, b, 0.05, **more),
    "fista": lambda o, b, **more: fista(o, b, 0.05, **more),
    "fista polished": lambda o, b, **more: fista(o, b, 0.05, polish=8, **more),
    "admm": lambda o, b, **more: admm(o, b, 0.05, **more),
    "amp": lambda o, b, **more: amp(o, b, 0.05, **more),
    "iht": lambda o, b, **more: iht(o, b, keep_per_row(COUNT), **more),
    "htp": lambda o, b, **more: htp(o, b, keep_per_row(COUNT), **more),
    "cosamp": lambda o, b, **more: cosamp(o, b, COUNT, **more),
    "omp": lambda o, b, **more: omp(o, b, COUNT, **more),
}
every_solver = pytest.mark.parametrize("name", SOLVERS)


@pytest.fixture(scope="module")
def operator() -> Operator:
    return random_operator("gaussian", 80, 0.6, seed=1)


@every_solver
def test_rows_do_not_mind_their_neighbours(name: str, operator: Operator) -> None:
    # Rows of very different difficulty: some stop long before others.
    rows = torch.cat([sparse_rows(3, 80, 1), 100 * sparse_rows(3, 80, 4, seed=1), torch.zeros(1, 80)])
    b = correlations(operator, rows)
    together = SOLVERS[name](operator, b)
    for row in range(len(b)):
        alone = SOLVERS[name](operator, b[row : row + 1])
        assert bool(alone.converged[0]) == bool(together.converged[row])
        assert (alone.solution[0] - together.solution[row]).norm() <= 1e-4 * rows[row].norm() + 1e-5


@every_solver
def test_a_solution_is_a_good_start(name: str, operator: Operator) -> None:
    truth = sparse_rows(6, 80, COUNT)
    b = correlations(operator, truth)
    first = SOLVERS[name](operator, b)
    kept = first.solution.clone()
    again = SOLVERS[name](operator, b, start=first.solution)
    assert torch.equal(first.solution, kept)
    assert distance(again.solution, first.solution).max() < 1e-3
    if name != "omp":
        assert again.iterations <= max(3, first.iterations // 2)


@every_solver
def test_degenerate_problems(name: str, operator: Operator) -> None:
    solver = SOLVERS[name]
    nothing = solver(operator, torch.zeros(3, 80))
    assert torch.equal(nothing.solution, torch.zeros(3, 80))
    assert nothing.converged.all()
    assert solver(operator, torch.zeros(0, 80)).solution.shape == (0, 80)
    blind = Dense(torch.zeros(8, 20))
    if name not in ("htp", "cosamp"):  # these would fit values that nothing determines
        assert torch.equal(solver(blind, torch.zeros(2, 20)).solution, torch.zeros(2, 20))
    single = Identity(1)
    if name == "cosamp" or name.startswith(("iht", "htp")):
        assert torch.allclose(solver(single, torch.tensor([[2.0]])).solution, torch.tensor([[2.0]]))


@every_solver
def test_what_is_not_finite_or_does_not_fit_is_refused(name: str, operator: Operator) -> None:
    b = correlations(operator, sparse_rows(4, 80, COUNT))
    b[2, 7] = torch.nan
    with pytest.raises(ValueError, match="correlations: NaN or infinity in 1 of 4 rows, the first is row 2"):
        SOLVERS[name](operator, b)
    with pytest.raises(ValueError, match=r"shape \(rows, 80\)"):
        SOLVERS[name](operator, torch.zeros(4, 79))
    with pytest.raises(ValueError, match="start: NaN"):
        SOLVERS[name](operator, torch.zeros(4, 80), start=torch.full((4, 80), torch.nan))
    with pytest.raises(ValueError, match="a warm start has shape"):
        SOLVERS[name](operator, torch.zeros(4, 80), start=torch.zeros(4, 8))


def test_options_out_of_range_are_refused(operator: Operator) -> None:
    b = torch.zeros(2, 80)
    for wrong, message in (
        (lambda: fista(operator, b, -1.0), "0 or more"),
        (lambda: fista(operator, b, torch.ones(2)), r"shape \(2, 1\)"),
        (lambda: admm(operator, b, 0.1, rho=0.0), "rho > 0"),
        (lambda: admm(operator, b, 0.1, relaxation=2.0), "relaxation in"),
        (lambda: amp(operator, b, 0.1, damping=0.0), "damping in"),
        (lambda: omp(operator, b, -1), "0 to 48"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


@pytest.mark.parametrize("solver", [ista, admm])
def test_objectives_do_not_rise(solver, operator: Operator) -> None:
    y = operator.measure(sparse_rows(8, 80, 12))
    b = operator.adjoint(y)

    def objective(x: torch.Tensor) -> torch.Tensor:
        return (operator.measure(x) - y).square().sum(1) / 2 + 0.05 * x.abs().sum(1)

    values = [objective(solver(operator, b, 0.05, iterations=n, tolerance=0.0).solution) for n in range(1, 40)]
    if solver is ista:
        assert all((after <= before * (1 + 1e-5)).all() for before, after in pairwise(values))
    else:  # ADMM may rise on its way, by little once it has begun to settle
        assert all((after <= before * 1.02).all() for before, after in pairwise(values[5:]))
        least, found = (objective(s(operator, b, 0.05).solution) for s in (fista, admm))
        assert (found <= least * (1 + 1e-4)).all()


@pytest.mark.parametrize("rule", [keep_per_row(12), keep_n_of_m(1, 5), keep_blocks(30, (2, 4))])
def test_the_misfit_of_iht_never_rises_whatever_the_rule(rule, operator: Operator) -> None:
    y = operator.measure(sparse_rows(8, 80, 12))
    b = operator.adjoint(y)
    runs = [iht(operator, b, rule, iterations=n, tolerance=0.0).solution for n in range(1, 30)]
    misfits = [(operator.measure(x) - y).square().sum() for x in runs]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(misfits))
    assert torch.equal(rule(runs[-1]) | (runs[-1] == 0), torch.ones_like(b, dtype=torch.bool))


def test_omp_stops_when_the_measurements_are_explained(operator: Operator) -> None:
    truth = torch.cat([sparse_rows(4, 80, 2), sparse_rows(4, 80, 6, seed=1)])
    found = omp(operator, correlations(operator, truth), 20, tolerance=1e-4)
    assert found.iterations <= 8
    assert torch.allclose(found.solution, truth, atol=1e-4)
    assert ((found.solution != 0).sum(1) == (truth != 0).sum(1)).all()


def test_omp_says_when_columns_run_out() -> None:
    # Columns 0 and 1 are the same: after one of them nothing is left to choose that is new.
    matrix = torch.eye(6)[:, [0, 0, 1]]
    gram = Gram(matrix.T @ matrix)
    found = omp(gram, torch.tensor([[1.0, 1.0, 0.5]]), 3)
    assert torch.allclose(gram.normal(found.solution), torch.tensor([[1.0, 1.0, 0.5]]))


def test_both_ways_to_debias_agree(operator: Operator) -> None:
    generator = torch.Generator().manual_seed(0)
    b = operator.adjoint(torch.randn(9, operator.measurements, generator=generator))
    support = torch.rand(9, 80, generator=generator) < 0.2
    support[0] = False
    exact = debias_exact(operator, b, support)
    assert torch.allclose(debias(operator, b, support), exact, atol=1e-4)
    assert (exact[~support] == 0).all()
    with pytest.raises(ValueError, match="row 4: the 80 columns of its support are dependent"):
        debias_exact(operator, b, support | (torch.arange(9) == 4)[:, None])
