from __future__ import annotations

import pytest
import torch
from support.toy_training import RATE, Loop, build, context_for, matrices, toy

from cspbench.pruning import Progress, PruningContext


def soft_threshold(values: torch.Tensor, threshold: float) -> torch.Tensor:
    """The definition."""
    return values.sign() * (values.abs() - threshold).clamp_min(0)


def l1(weight: torch.nn.Parameter, sparsity: float, steps: int, **params: object):
    return build("l1", {"refit": False} | params, PruningContext({"w": weight}, sparsity, steps))


def step(method, number: int, total: int) -> None:
    method.after_backward(Progress(number, total, 0, RATE))
    method.after_step(Progress(number, total, 0, RATE))


def test_soft_threshold_minimises_its_objective() -> None:
    values, threshold = torch.tensor([3.0, 0.5, -0.5, -2.0, 0.2, 0.0]), 0.5
    found = soft_threshold(values, threshold)
    assert found.tolist() == [2.5, 0.0, 0.0, -1.5, 0.0, 0.0]
    grid = torch.linspace(-3, 3, 6001)
    objective = (grid - values[:, None]).square() / 2 + threshold * grid.abs()
    assert torch.allclose(grid[objective.argmin(1)], found, atol=1e-3)


def test_every_step_is_exactly_soft_thresholding() -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, -0.3], [0.1, -8.0]]))
    method = l1(weight, 0.5, 20, strength=1.0, end=0.5)
    method.start()
    before = weight.detach().clone()
    for number in range(5):
        step(method, number, 20)
        before = soft_threshold(before, 0.3 / 10)  # the cut would take up to 0.3, in 10 steps
        assert torch.allclose(weight.detach(), before, atol=1e-7)
    assert method.masks()["w"].tolist() == [[True, True], [False, True]]


def test_weights_a_cut_would_take_arrive_at_zero_if_training_lets_them() -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, -0.3], [0.1, -8.0]]))
    method = l1(weight, 0.5, 20, strength=1.0, end=0.5)
    method.start()
    for number in range(12):
        step(method, number, 20)
    assert torch.allclose(weight.detach(), torch.tensor([[3.7, 0.0], [0.0, -7.7]]))
    step(method, 12, 20)
    assert torch.allclose(weight.detach(), torch.tensor([[3.7, 0.0], [0.0, -7.7]])), "after the cut nothing shrinks"


def test_a_pull_too_strong_ends_at_the_target() -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, -0.3], [0.1, -8.0]]))
    method = l1(weight, 0.5, 20, strength=100.0, end=0.5)
    method.start()
    for number in range(20):
        step(method, number, 20)
    method.finish()
    assert (weight != 0).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("coupled", [True, False])
def test_the_pull_follows_the_learning_rate_and_adds_up_to_the_same(coupled: bool) -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, -0.3], [0.1, -8.0]]))
    rates = [1.0, 3.0, 2.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    context = PruningContext({"w": weight}, 0.5, 8, learning_rate=rates.__getitem__)
    method = build("l1", {"refit": False, "end": 0.5, "coupled": coupled}, context)
    method.start()
    largest = []
    for number in range(4):
        step(method, number, 8)
        largest.append(round(8.0 - abs(float(weight.detach()[1, 1])), 4))
    # The cut would take up to 0.3; the first four rates add up to 8.
    assert largest == ([0.0375, 0.15, 0.225, 0.3] if coupled else [0.075, 0.15, 0.225, 0.3])


def test_survivors_are_debiased_at_the_cut() -> None:
    model = toy()
    context = context_for(model, 0.7, 40)
    plain, fitted = toy(), toy()
    Loop(plain, build("l1", {"refit": False}, context_for(plain, 0.7, 40)), 40).run(until=21)
    Loop(fitted, build("l1", {}, context_for(fitted, 0.7, 40)), 40).run(until=21)
    assert context.zeros == sum(int((w == 0).sum()) for w in matrices(fitted).values())
    assert any(not torch.equal(w, matrices(plain)[name]) for name, w in matrices(fitted).items())


def test_weights_gather_near_zero_before_the_cut() -> None:
    plain, shrunk = toy(), toy()
    method = build("l1", {"end": 1.0, "strength": 0.9}, context_for(shrunk, 0.8, 100))
    Loop(plain, None, 100).run(until=99)
    Loop(shrunk, method, 100).run(until=99)
    near = {}
    for name, model in (("plain", plain), ("shrunk", shrunk)):
        sizes = torch.cat([w.detach().abs().reshape(-1) for w in matrices(model).values()])
        near[name] = float((sizes < 0.02).float().mean())
    assert near["shrunk"] > 5 * near["plain"]


def test_the_pull_is_one_for_all_matrices_or_each_its_own() -> None:
    weights = {name: torch.nn.Parameter(s * torch.arange(1.0, 11).view(1, 10)) for name, s in (("a", 1.0), ("b", 10.0))}
    for allocation, expected in (("global", [1.0, 1.0]), ("uniform", [0.5, 5.0])):
        method = build("l1", {"allocation": allocation, "end": 1.0, "refit": False}, PruningContext(weights, 0.5, 10))
        method.start()
        state = method.state_dict()
        assert [round(float(state[f"threshold.{name}"]), 4) for name in weights] == expected
