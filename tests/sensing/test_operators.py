from __future__ import annotations

import math

import pytest
import torch

from cspbench.sensing import ENSEMBLES, Dense, Gram, Identity, Operator, SubsampledDCT, random_operator


def operators() -> dict[str, Operator]:
    x = torch.randn(40, 13, generator=torch.Generator().manual_seed(1))
    drawn: dict[str, Operator] = {name: random_operator(name, 13, 0.6, seed=2) for name in ENSEMBLES}
    return drawn | {"identity": Identity(13), "gram": Gram(x.T @ x / 40), "damped": Gram(x.T @ x / 40, 0.1)}


@pytest.mark.parametrize("name", operators())
def test_adjoint_gram_and_lipschitz_belong_together(name: str) -> None:
    operator = operators()[name]
    x = torch.randn(5, 13)
    y = torch.randn(5, operator.measurements)
    measured = operator.measure(x)
    assert measured.shape == (5, operator.measurements)
    assert torch.allclose((measured * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-4, atol=1e-4)
    assert torch.allclose(operator.normal(x), operator.adjoint(measured), rtol=1e-4, atol=1e-4)
    assert torch.allclose(x @ operator.gram(), operator.normal(x), rtol=1e-4, atol=1e-4)
    spectrum = torch.linalg.eigvalsh(operator.gram().double())
    assert spectrum[0] > -1e-5
    assert operator.lipschitz == pytest.approx(float(spectrum[-1]), rel=1e-4)
    assert operator.lipschitz * (1 + 1e-6) >= float(spectrum[-1])
    assert operator.mean_curvature == pytest.approx(float(spectrum.mean()), rel=1e-4)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_random_ensembles_keep_energy_on_average(ensemble: str) -> None:
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    energy = [float(random_operator(ensemble, 64, 0.5, seed).measure(x).square().sum()) for seed in range(200)]
    assert sum(energy) / 200 == pytest.approx(float(x.square().sum()), rel=0.1)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_draw_depends_on_its_seed_alone(ensemble: str) -> None:
    torch.manual_seed(1)
    first = random_operator(ensemble, 30, 0.5, seed=4).measure(torch.eye(30))
    torch.manual_seed(2)
    assert torch.equal(first, random_operator(ensemble, 30, 0.5, seed=4).measure(torch.eye(30)))
    assert not torch.equal(first, random_operator(ensemble, 30, 0.5, seed=5).measure(torch.eye(30)))
    assert first.shape == (30, 15)


def test_a_full_dct_is_orthonormal() -> None:
    assert torch.allclose(random_operator("dct", 17, 1.0, seed=0).gram(), torch.eye(17), atol=1e-5)
    assert random_operator("dct", 1, 0.3, seed=0).gram().tolist() == [[1.0]]


def test_a_gram_measures_the_response_to_the_inputs() -> None:
    inputs, w = torch.randn(500, 8), torch.randn(3, 8)
    operator = Gram(inputs.T @ inputs / 500)
    response = (inputs @ w.T).square().mean(0)
    assert torch.allclose(operator.measure(w).square().sum(1), response, rtol=1e-4)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be in"):
        random_operator("gaussian", 8, 0.0, seed=0)
    with pytest.raises(ValueError, match="known: gaussian"):
        random_operator("gausian", 8, 0.5, seed=0)
    with pytest.raises(ValueError, match="square"):
        Gram(torch.ones(3, 4))
    with pytest.raises(ValueError, match="columns"):
        Identity(0)
    assert Dense(torch.ones(2, 3)).measurements == 2
    assert math.isclose(Identity(4).lipschitz, 1.0)


@pytest.mark.parametrize("columns", [1, 2, 9, 16, 31])
def test_the_fast_dct_is_the_matrix_it_stands_for(columns: int) -> None:
    chosen = torch.arange(0, columns, 2)
    operator = SubsampledDCT(columns, chosen)
    places = torch.arange(columns).double() + 0.5
    matrix = torch.cos(torch.outer(chosen.double(), places) * math.pi / columns) * math.sqrt(2 / len(chosen))
    matrix[0] /= math.sqrt(2)
    x, y = torch.randn(3, columns).double(), torch.randn(3, len(chosen)).double()
    assert torch.allclose(operator.measure(x), x @ matrix.T, atol=1e-12)
    assert torch.allclose(operator.adjoint(y), y @ matrix, atol=1e-12)
    assert operator.measure(x.float()).dtype == torch.float32
    assert operator.adjoint(y.float()).dtype == torch.float32


@pytest.mark.parametrize("name", operators())
def test_the_resolvent_solves_the_shifted_system(name: str) -> None:
    operator = operators()[name]
    x = torch.randn(4, 13)
    for shift in (0.1, 2.0):
        solved = operator.resolvent(x, shift)
        assert torch.allclose(operator.normal(solved) + shift * solved, x, atol=1e-4)
        assert torch.equal(operator.resolvent(x, shift), solved)


class FunctionOnly(Operator):
    """Knows how to be applied, and nothing else."""

    def __init__(self, inner: Operator) -> None:
        super().__init__(inner.columns, inner.measurements)
        self.measure, self.adjoint = inner.measure, inner.adjoint  # type: ignore[method-assign]

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("name", operators())
def test_a_matrix_free_operator_bounds_its_largest_eigenvalue(name: str) -> None:
    operator = FunctionOnly(operators()[name])
    largest = float(torch.linalg.eigvalsh(operator.gram().double())[-1])
    assert largest <= operator.lipschitz <= 1.1 * largest


def test_a_large_operator_is_never_formed() -> None:
    operator = random_operator("dct", 1 << 20, 0.25, seed=0)
    x = torch.zeros(1, 1 << 20)
    x[0, 12345] = 1.0
    assert float(operator.measure(x).square().sum()) == pytest.approx(1.0, abs=0.01)
    assert operator.lipschitz == pytest.approx(4.0)


def test_activations_make_a_gram() -> None:
    inputs = torch.randn(50, 6)
    assert torch.allclose(Gram.of_inputs(inputs).gram(), inputs.T @ inputs / 50, atol=1e-5)
    damped = Gram.of_inputs(inputs, damping=0.5).gram().diagonal() - Gram.of_inputs(inputs).gram().diagonal()
    assert torch.allclose(damped, 0.5 * Gram.of_inputs(inputs).gram().diagonal().mean().expand(6), atol=1e-5)
    with pytest.raises(ValueError, match="samples >= 1"):
        Gram.of_inputs(torch.zeros(0, 6))
    with pytest.raises(ValueError, match="increasing indices"):
        SubsampledDCT(8, torch.tensor([3, 3]))
