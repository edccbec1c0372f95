"""Recovery against what is proved or known of it."""

from __future__ import annotations

import pytest
import torch
from support.signals import GPU, correlations, distance, sparse_rows

from cspbench.sensing import Operator, admm, amp, cosamp, fista, htp, iht, keep_per_row, omp, random_operator

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not GPU, reason="no GPU here"))]
COLUMNS, MEASUREMENTS = 256, 128


def lasso(operator: Operator, b: torch.Tensor) -> torch.Tensor:
    """Close to the least l1 norm that explains the measurements."""
    return fista(operator, b, 1e-3, iterations=5000, tolerance=1e-7, polish=50).solution


GREEDY = {
    "iht": lambda o, b, k: iht(o, b, keep_per_row(k)).solution,
    "htp": lambda o, b, k: htp(o, b, keep_per_row(k)).solution,
    "cosamp": lambda o, b, k: cosamp(o, b, k).solution,
    "omp": lambda o, b, k: omp(o, b, k).solution,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ensemble", ["gaussian", "rademacher", "dct"])
@pytest.mark.parametrize("solver", GREEDY)
def test_greedy_solvers_recover_exactly_inside_the_transition(solver: str, ensemble: str, device: str) -> None:
    # k/q = 0.1 at q/n = 0.5, far inside the region where each of them recovers typical signals.
    operator = random_operator(ensemble, COLUMNS, 0.5, seed=1, device=device)
    truth = sparse_rows(24, COLUMNS, 12).to(device)
    found = GREEDY[solver](operator, correlations(operator, truth), 12)
    assert float((distance(found, truth) < 1e-4).float().mean()) >= 0.95
    assert ((found != 0).sum(1) <= 12).all()


@pytest.mark.parametrize("ensemble", ["gaussian", "rademacher", "dct"])
def test_l1_recovers_below_the_donoho_tanner_transition_and_fails_above(ensemble: str) -> None:
    # At q/n = 0.5 the weak l1 transition is at k/q = 0.386 (Donoho & Tanner 2009); its width here is about 0.05.
    operator = random_operator(ensemble, COLUMNS, 0.5, seed=1)
    for share, succeeds in ((0.25, True), (0.55, False)):
        truth = sparse_rows(16, COLUMNS, round(share * MEASUREMENTS))
        good = distance(lasso(operator, correlations(operator, truth)), truth) < 0.02
        assert float(good.float().mean()) >= 0.9 if succeeds else not good.any()


def test_amp_has_the_transition_of_l1() -> None:
    # State evolution puts it at the same place (Donoho, Maleki & Montanari 2009). A larger system: AMP is asymptotic.
    operator = random_operator("gaussian", 800, 0.5, seed=1)
    for count, succeeds in ((100, True), (230, False)):
        truth = sparse_rows(8, 800, count)
        good = distance(amp(operator, correlations(operator, truth), 1e-3, iterations=300).solution, truth) < 0.02
        assert bool(good.all()) if succeeds else not good.any()


def test_no_solver_finds_more_entries_than_there_are_measurements() -> None:
    operator = random_operator("gaussian", 40, 0.25, seed=0)
    with pytest.raises(ValueError, match="0 to 10 entries"):
        omp(operator, torch.zeros(1, 40), 11)
    with pytest.raises(ValueError, match="least squares has no unique solution"):
        htp(operator, torch.randn(2, 40, generator=torch.Generator().manual_seed(0)), keep_per_row(11))
    limited = htp(operator, correlations(operator, sparse_rows(2, 40, 3)), keep_per_row(11), debias_steps=5)
    assert limited.solution.isfinite().all()


@pytest.mark.parametrize("solver", GREEDY)
def test_the_error_is_proportional_to_the_noise(solver: str) -> None:
    # With the support found, least squares errs by at most |noise| / sqrt(1 - delta_k); delta_k < 0.6 for 12 columns of
    # this operator, so by less than 1.6 |noise|. The bound stated here leaves room for a wrong small entry.
    operator = random_operator("gaussian", COLUMNS, 0.5, seed=1)
    truth = sparse_rows(24, COLUMNS, 12)
    y = operator.measure(truth)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    errors = []
    for level in (0.001, 0.01, 0.03):
        scaled = level * noise
        found = GREEDY[solver](operator, operator.adjoint(y + scaled), 12)
        ratio = (found - truth).norm(dim=1) / scaled.norm(dim=1)
        assert float((ratio < 2.5).float().mean()) >= 0.95
        errors.append(float(ratio.median()))
    assert max(errors) <= 1.5 * min(errors)


@pytest.mark.parametrize("solver", [fista, admm, amp])
def test_the_lasso_error_is_proportional_to_the_noise(solver) -> None:
    # Penalty 2 |Phi^T noise|_inf: then |x - w| <= 3 sqrt(k) penalty / kappa with kappa the restricted eigenvalue
    # (Bickel, Ritov & Tsybakov 2009); kappa >= 0.25 is ample for this operator.
    operator = random_operator("gaussian", COLUMNS, 0.5, seed=1)
    truth = sparse_rows(16, COLUMNS, 10)
    y = operator.measure(truth)
    for level in (0.01, 0.05):
        noise = level * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
        penalty = 2 * operator.adjoint(noise).abs().amax(1, keepdim=True)
        found = solver(operator, operator.adjoint(y + noise), penalty).solution
        assert ((found - truth).norm(dim=1) <= 3 * 10**0.5 * penalty[:, 0] / 0.25).all()
