from __future__ import annotations

import math

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.pruning import Progress, PruningContext


def step(method, weight: torch.nn.Parameter, number: int, gradient: list[list[float]], total: int = 10) -> None:
    progress = Progress(number, total, 0, 0.1)
    weight.grad = torch.tensor(gradient)
    method.after_backward(progress)
    assert weight.grad is None, "the optimiser must not move it too"
    method.after_step(progress)


def plain(**params: object) -> dict[str, object]:
    """Without Adam's scaling, and without penalty for the first steps."""
    return {"scaling": "none", "begin": 0.3, "momentum": 0.5, "interval": 1} | params


@pytest.mark.parametrize("averaging", ["dual", "none", "cosine"])
def test_without_penalty_it_is_gradient_descent_with_momentum(averaging: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    method = build("xrda", plain(averaging=averaging), PruningContext({"w": weight}, 0.5, 10))
    step(method, weight, 0, [[1.0, 0.0]])
    torch.testing.assert_close(weight.detach(), torch.tensor([[2.0 - 0.1 * 0.5, -1.0]]))
    step(method, weight, 1, [[1.0, -2.0]])
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.95 - 0.1 * 0.75, -1.0 + 0.1 * 1.0]]))


@pytest.mark.parametrize("averaging", ["dual", "none", "cosine"])
def test_the_update_as_in_the_paper(averaging: str) -> None:
    """Dual, accumulated penalty and weights against the formulas written out."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=generator))
    params = plain(averaging=averaging, contrast=20.0, schedule="linear", begin=0.0)
    method = build("xrda", params, PruningContext({"w": weight}, 0.5, 10))
    w = dual = weight.detach().clone()
    mean, penalty, velocity = torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, 4)
    for number in range(10):
        gradient = torch.randn(3, 4, generator=generator)
        av = {"dual": 1.0, "none": 0.0, "cosine": 0.5 * (1 - math.cos(math.pi * number / 10))}[averaging]
        mean = 0.5 * mean + 0.5 * w.abs()
        velocity = 0.5 * velocity + 0.5 * gradient
        penalty = av * penalty + 0.1 * 20 / (1 + 19 * mean / mean.max())
        dual = av * dual + (1 - av) * w - 0.1 * velocity
        zeros = round(6 * min(1.0, (number + 1) / 7))
        level = (dual.abs() / penalty).flatten().sort().values[zeros - 1] if zeros else 0.0
        w = dual.sign() * (dual.abs() - level * penalty).clamp_min(0)
        step(method, weight, number, gradient.tolist())
        torch.testing.assert_close(weight.detach(), w, atol=1e-5, rtol=1e-5)
        assert int((weight == 0).sum()) == zeros


def test_the_shrinking_is_not_carried_into_the_dual() -> None:
    """With a zero gradient dual averaging stands still, however long; proximal steps would shrink again and again."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 0.5, 0.1, 0.05]]))
    params = plain(averaging="dual", contrast=1.0, begin=0.0, schedule="one_shot")
    method = build("xrda", params, PruningContext({"w": weight}, 0.5, 10))
    method.start()
    for number in range(10):
        step(method, weight, number, [[0.0] * 4])
    # The penalty accumulates, and lambda falls to match: always 0.1 off each.
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.9, 0.4, 0.0, 0.0]]))


def test_large_weights_are_hardly_penalised() -> None:
    start = torch.tensor([[1.0, 0.5, 0.1, 0.05]])
    shrunk = {}
    for contrast in (1.0, 500.0):
        weight = torch.nn.Parameter(start.clone())
        params = plain(contrast=contrast, begin=0.0, schedule="one_shot", averaging="dual")
        method = build("xrda", params, PruningContext({"w": weight}, 0.5, 10))
        method.start()
        step(method, weight, 0, [[0.0] * 4])
        shrunk[contrast] = 1 - weight[0, 0].item()
    assert shrunk[1.0] == pytest.approx(0.1)
    assert shrunk[500.0] < 0.02


def test_a_weight_returns_when_its_dual_recovers() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 0.1]]))
    params = plain(begin=0.0, schedule="one_shot", averaging="dual", contrast=1.0)
    method = build("xrda", params, PruningContext({"w": weight}, 0.5, 10))
    method.start()
    step(method, weight, 0, [[0.0, 0.0]])
    assert method.masks()["w"].tolist() == [[True, False]]
    for number in range(1, 6):
        step(method, weight, number, [[0.0, -8.0]])
    assert method.masks()["w"].tolist() == [[False, True]]


def test_it_recovers_a_sparse_signal_from_random_measurements() -> None:
    """Compressed sensing proper: fewer measurements than unknowns, the support and the values are found."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 60)
    truth[0, torch.randperm(60, generator=generator)[:6]] = torch.tensor([3.0, -2.5, 2.0, -1.5, 1.2, 1.0])
    sensing = torch.randn(30, 60, generator=generator) / math.sqrt(30)
    measured = truth @ sensing.T
    weight = torch.nn.Parameter(0.01 * torch.randn(1, 60, generator=generator))
    params = {"scaling": "none", "begin": 0.1, "contrast": 20.0}
    method = build("xrda", params, PruningContext({"w": weight}, 0.9, 2000))
    method.start()
    for number in range(2000):
        gradient = (weight.detach() @ sensing.T - measured) @ sensing
        step(method, weight, number, gradient.tolist(), total=2000)
    method.finish()
    assert torch.equal(weight != 0, truth != 0)
    torch.testing.assert_close(weight.detach(), truth, atol=1e-3, rtol=0)


def test_the_optimiser_keeps_no_state_of_the_pruned_matrices() -> None:
    model = toy()
    loop = Loop(model, build("xrda", {}, context_for(model, 0.8, 20)), 20)
    loop.run()
    owned = {id(w) for w in matrices(model).values()}
    assert owned.isdisjoint({id(p) for p in loop.optimizer.state})
    assert any(id(p) not in owned for p in loop.optimizer.state), "biases are the optimiser's"


def test_an_overflowing_gradient_is_ignored() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, 1.0]]))
    method = build("xrda", plain(), PruningContext({"w": weight}, 0.5, 10))
    step(method, weight, 0, [[float("nan"), float("inf")]])
    torch.testing.assert_close(weight.detach(), torch.tensor([[2.0, 1.0]]))
