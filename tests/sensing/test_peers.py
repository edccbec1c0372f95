"""Agreement with scikit-learn, and of our solvers with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.signals import correlations, distance, sparse_rows

from cspbench.sensing import Dense, Gram, admm, amp, exact_finish, fista, ista, omp, random_operator

linear = pytest.importorskip("sklearn.linear_model")
LASSO = {"ista": ista, "fista": fista, "admm": admm, "amp": amp}


def noisy(rows: int = 12, columns: int = 120, count: int = 6) -> tuple[Dense, torch.Tensor]:
    operator = Dense(random_operator("gaussian", columns, 0.5, seed=2).measure(torch.eye(columns)).T.contiguous())
    y = operator.measure(sparse_rows(rows, columns, count))
    return operator, y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("polish", [0, 10])
@pytest.mark.parametrize("solver", LASSO)
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_lasso_agrees_with_scikit_learn(solver: str, share: float, polish: int) -> None:
    # AMP is asymptotic: on few columns it may wander about.
    operator, y = noisy(columns=400, count=16) if solver == "amp" else noisy()
    b = operator.adjoint(y)
    penalty = share * b.abs().amax(1, keepdim=True)
    found = LASSO[solver](operator, b, penalty, iterations=20000, tolerance=1e-6, polish=polish)
    assert found.converged.all()
    design = operator.matrix.double().numpy()
    for row in range(len(y)):
        model = linear.Lasso(float(penalty[row]) / len(design), fit_intercept=False, tol=1e-10, max_iter=100000)
        theirs = model.fit(design, y[row].double().numpy()).coef_
        assert np.abs(theirs - found.solution[row].numpy()).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("count", [1, 6, 25])
def test_omp_agrees_with_scikit_learn(count: int) -> None:
    operator, y = noisy()
    found = omp(operator, operator.adjoint(y), count)
    assert found.iterations == count
    design = operator.matrix.numpy()
    theirs = linear.orthogonal_mp(design, y.numpy().T, n_nonzero_coefs=count).T
    assert np.abs(theirs - found.solution.numpy()).max() < 1e-4 * np.abs(theirs).max()
    one = linear.OrthogonalMatchingPursuit(n_nonzero_coefs=count, fit_intercept=False).fit(design, y[0].numpy())
    assert np.abs(one.coef_ - found.solution[0].numpy()).max() < 1e-4 * np.abs(theirs).max()


def test_admm_and_fista_agree_on_an_ill_conditioned_gram() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 40, generator=generator).double() * torch.logspace(0, -1.5, 40).double()
    operator = Gram.of_inputs(inputs @ torch.linalg.qr(torch.randn(40, 40, generator=generator).double()).Q, 0.01)
    b = operator.normal(torch.randn(6, 40, generator=generator).double())
    penalty = 0.05 * b.abs().amax(1, keepdim=True)
    fast = fista(operator, b, penalty, iterations=20000, tolerance=1e-9)
    split = admm(operator, b, penalty, iterations=20000, tolerance=1e-9)
    assert fast.converged.all()
    assert split.converged.all()
    assert distance(split.solution, fast.solution).max() < 1e-5
    answer, exact = exact_finish(operator, b, penalty, fast.solution)
    assert distance(answer[exact], fast.solution[exact]).max() < 1e-5 if exact.any() else True


def test_a_wrong_guess_is_not_passed_off_as_exact() -> None:
    operator, y = noisy()
    b = operator.adjoint(y)
    penalty = 0.1 * b.abs().amax(1, keepdim=True)
    truth = fista(operator, b, penalty, tolerance=1e-7, iterations=5000).solution
    for seed in range(5):
        guess = sparse_rows(len(y), 120, 8, seed)
        answer, exact = exact_finish(operator, b, penalty, guess)
        assert torch.equal(answer[~exact], guess[~exact])
        if exact.any():
            assert distance(answer[exact], truth[exact]).max() < 1e-4


def test_polish_ends_on_the_exact_solution_sooner() -> None:
    operator, y = noisy()
    b = operator.adjoint(y)
    plain, polished = (fista(operator, b, 0.1, tolerance=1e-6, polish=p) for p in (0, 10))
    assert polished.converged.all()
    assert polished.iterations < plain.iterations
    slope = b - operator.normal(polished.solution)
    assert (slope.abs() <= 0.1 * (1 + 1e-4)).all()


def test_amp_needs_fewer_steps_than_fista() -> None:
    operator = random_operator("gaussian", 400, 0.5, seed=3)
    b = correlations(operator, sparse_rows(8, 400, 20))
    quick, slow = amp(operator, b, 0.05, tolerance=1e-5), fista(operator, b, 0.05, tolerance=1e-5)
    assert quick.converged.all()
    assert quick.iterations < slow.iterations
    assert distance(quick.solution, slow.solution).max() < 1e-3


def test_damped_amp_has_the_same_fixed_point() -> None:
    operator = random_operator("gaussian", 200, 0.5, seed=3)
    b = correlations(operator, sparse_rows(8, 200, 8))
    assert distance(amp(operator, b, 0.1, damping=0.7).solution, amp(operator, b, 0.1).solution).max() < 1e-4
