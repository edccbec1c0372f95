from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from support.signals import correlations, sparse_rows

from cspbench.sensing import (
    Dense,
    Gram,
    Identity,
    Operator,
    debias,
    fista,
    htp,
    iht,
    ista,
    keep_per_row,
    random_operator,
    soft_threshold,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


def objective(operator: Operator, y: torch.Tensor, x: torch.Tensor, penalty: float) -> torch.Tensor:
    return (operator.measure(x) - y).square().sum(1) / 2 + penalty * x.abs().sum(1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ensemble", ["gaussian", "rademacher", "dct"])
def test_exact_recovery_well_inside_the_phase_transition(ensemble: str, device: str) -> None:
    # 128 columns, 64 measurements, 8 non-zeros: q/n = 0.5, k/q = 0.125; l1 recovery fails from k/q of about 0.38 on.
    operator = random_operator(ensemble, 128, 0.5, seed=1, device=device)
    truth = sparse_rows(32, 128, 8).to(device)
    b = correlations(operator, truth)
    for solver in (iht, htp):
        found = solver(operator, b, keep_per_row(8))
        assert found.converged.all()
        assert torch.allclose(found.solution, truth, atol=1e-4), solver.__name__
    lasso = fista(operator, b, 1e-3, iterations=3000).solution
    assert torch.equal(keep_per_row(8)(lasso), truth != 0)
    assert torch.allclose(debias(operator, b, truth != 0, lasso), truth, atol=1e-4)


def test_htp_needs_few_iterations() -> None:
    operator = random_operator("gaussian", 128, 0.5, seed=1)
    truth = sparse_rows(32, 128, 8)
    assert htp(operator, correlations(operator, truth), keep_per_row(8)).iterations <= 10


def test_noise_costs_in_proportion() -> None:
    operator = random_operator("gaussian", 128, 0.5, seed=1)
    truth = sparse_rows(32, 128, 8)
    y = operator.measure(truth)
    noise = 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    found = htp(operator, operator.adjoint(y + noise), keep_per_row(8)).solution
    assert ((found - truth).norm(dim=1) <= 4 * noise.norm(dim=1)).all()


def test_a_rule_may_couple_the_rows() -> None:
    operator = random_operator("gaussian", 60, 0.7, seed=1)
    truth = sparse_rows(6, 60, 3)
    truth[0] = 0

    def eighteen_in_all(x: torch.Tensor) -> torch.Tensor:
        return keep_per_row(15)(x.reshape(1, -1)).view(x.shape)

    found = htp(operator, correlations(operator, truth), eighteen_in_all).solution
    assert torch.allclose(found, truth, atol=1e-4)


def test_soft_threshold() -> None:
    assert soft_threshold(torch.tensor([-3.0, -0.5, 0.2, 2.0]), 1.0).tolist() == [-2.0, 0.0, 0.0, 1.0]


def test_ista_and_iht_never_raise_their_objective() -> None:
    operator = random_operator("gaussian", 40, 0.5, seed=1)
    truth = sparse_rows(8, 40, 15)
    y = operator.measure(truth)
    b = operator.adjoint(y)
    lasso, constrained = torch.zeros_like(truth), keep_per_row(10)(truth) * truth
    for _ in range(60):
        moved = ista(operator, b, 0.05, start=lasso, iterations=1).solution
        assert (objective(operator, y, moved, 0.05) <= objective(operator, y, lasso, 0.05) + 1e-4).all()
        lasso = moved
        moved = iht(operator, b, keep_per_row(10), start=constrained, iterations=1).solution
        before, after = objective(operator, y, constrained, 0.0).sum(), objective(operator, y, moved, 0.0).sum()
        assert after <= before + 1e-4
        constrained = moved


@pytest.mark.parametrize("solver", [fista, ista])
def test_lasso_solutions_satisfy_their_optimality_conditions(solver) -> None:
    operator = random_operator("gaussian", 40, 0.5, seed=1)
    operator = Dense(operator.matrix.double())
    b = correlations(operator, sparse_rows(8, 40, 5).double())
    penalty = 0.1
    found = solver(operator, b, penalty, iterations=20000, tolerance=1e-9)
    assert found.converged.all()
    x, slope = found.solution, b - operator.normal(found.solution)
    assert (slope.abs() <= penalty + 1e-6).all()
    assert torch.allclose(slope[x != 0], penalty * x[x != 0].sign(), atol=1e-6)
    assert (x == 0).any()
    assert (x != 0).any()


def test_fista_is_quicker_than_ista_and_agrees() -> None:
    operator = random_operator("gaussian", 60, 0.5, seed=1)
    b = correlations(operator, sparse_rows(8, 60, 6))
    fast = fista(operator, b, 0.02, iterations=5000, tolerance=1e-7)
    slow = ista(operator, b, 0.02, iterations=20000, tolerance=1e-7)
    assert fast.iterations * 2 < slow.iterations
    assert torch.allclose(fast.solution, slow.solution, atol=1e-3)


def test_each_row_may_have_its_penalty_and_a_warm_start_is_used() -> None:
    operator = random_operator("gaussian", 30, 0.8, seed=1)
    b = correlations(operator, sparse_rows(2, 30, 4))
    penalties = torch.tensor([[0.01], [0.5]])
    both = fista(operator, b, penalties)
    for row in range(2):
        alone = fista(operator, b[row : row + 1], float(penalties[row]))
        assert torch.allclose(both.solution[row], alone.solution[0], atol=1e-4)
    again = fista(operator, b, penalties, start=both.solution, tolerance=1e-4)
    assert again.iterations <= 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("start", [False, True])
def test_debias_is_least_squares_on_the_support(start: bool, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    operator = Dense(torch.randn(30, 20, generator=generator).double().to(device))
    y = torch.randn(7, 30, generator=generator).double().to(device)
    support = (torch.rand(7, 20, generator=generator) < 0.4).to(device)
    support[0], support[1] = False, True
    warm = torch.randn(7, 20, generator=generator).double().to(device) if start else None
    found = debias(operator, operator.adjoint(y), support, warm, steps=60)
    for row in range(7):
        columns = support[row].nonzero().squeeze(1)
        assert (found[row][~support[row]] == 0).all()
        if len(columns):
            exact = torch.linalg.lstsq(operator.matrix[:, columns], y[row][:, None]).solution.squeeze(1)
            assert torch.allclose(found[row, columns], exact, atol=1e-8)


def test_each_debias_step_lowers_the_misfit_even_on_an_ill_conditioned_gram() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 32, generator=generator) * torch.logspace(0, -3, 32)
    inputs = inputs @ torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
    operator = Gram(inputs.T @ inputs / 400, damping=1e-3)
    w = torch.randn(16, 32, generator=generator)
    support = keep_per_row(8)(w)
    misfits = []
    for steps in range(0, 30, 3):
        gap = w - debias(operator, operator.normal(w), support, w, steps)
        misfits.append((gap * operator.normal(gap)).sum(1))
        assert torch.isfinite(misfits[-1]).all()
    for before, after in pairwise(misfits):
        assert (after <= before * (1 + 1e-4) + 1e-7).all()
    assert (misfits[-1] < 0.5 * misfits[0]).any()


def test_debias_of_a_solved_problem_and_of_nothing_stays_put() -> None:
    w = torch.randn(4, 6)
    everything = torch.ones_like(w, dtype=torch.bool)
    assert torch.equal(debias(Identity(6), w, everything, w, 10), w)
    assert torch.equal(debias(Identity(6), w, ~everything, w, 10), torch.zeros_like(w))
