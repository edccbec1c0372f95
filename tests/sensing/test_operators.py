from __future__ import annotations

import math

import pytest
import torch

from cspbench.sensing import ENSEMBLES, Dense, Gram, Identity, Operator, random_operator


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
