from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.pruning import Progress, PruningContext


def test_updates_as_in_the_paper() -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, 1.0]]))
    params = {"rho": 3.0, "growth": 16.0, "interval": 1, "end": 0.4}
    method = build("admm", params, PruningContext({"w": weight}, 0.5, 10))
    method.start()
    assert method.state_dict()["z.w"].tolist() == [[4.0, 0.0]]
    method.after_step(Progress(0, 10, 0, 0.1))
    # W <- (W + c (Z - U)) / (1 + c) with c = 0.1 * 3 and U = 0
    pulled = torch.tensor([[4.0, 1 / 1.3]])
    torch.testing.assert_close(weight.detach(), pulled)
    state = method.state_dict()
    torch.testing.assert_close(state["z.w"], torch.tensor([[4.0, 0.0]]))
    # U <- U + W - Z, then scaled as rho doubles (a quarter of the way to 16 times)
    torch.testing.assert_close(state["u.w"], torch.tensor([[0.0, 1 / 1.3 / 2]]))
    assert float(state["admm.rho"]) == pytest.approx(6.0)
    method.after_step(Progress(1, 10, 0, 0.1))
    torch.testing.assert_close(weight.detach(), (pulled - 0.6 * torch.tensor([[-4.0, 1 / 2.6]])) / 1.6)


def test_between_iterations_z_and_u_stand_still() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    method = build("admm", {"interval": 5}, PruningContext({"w": weight}, 0.5, 100))
    method.start()
    z = method.state_dict()["z.w"]
    for step in range(4):
        method.after_step(Progress(step, 100, 0, 0.1))
        assert torch.equal(method.state_dict()["z.w"], z)
        assert not method.state_dict()["u.w"].any()
    method.after_step(Progress(4, 100, 0, 0.1))
    assert method.state_dict()["u.w"].any()


def quadratic(steps: int, **params: object) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Least squares of a 5-sparse row under ADMM: the weight before the cut, the truth, and ``||W - Z||`` by step."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 20)
    truth[0, :5] = torch.tensor([3.0, -2.0, 1.5, -1.0, 0.8])
    inputs = torch.randn(200, 20, generator=generator)
    targets = inputs @ truth.T + 0.01 * torch.randn(200, 1, generator=generator)
    weight = torch.nn.Parameter(torch.randn(1, 20, generator=generator))
    method = build("admm", params, PruningContext({"w": weight}, 0.75, steps))
    method.start()
    gaps = []
    for step in range(round(steps * params["end"]) - 1):
        gradient = (inputs @ weight.detach().T - targets).T @ inputs / 200
        with torch.no_grad():
            weight -= 0.1 * gradient
        method.after_step(Progress(step, steps, 0, 0.1))
        gaps.append(float((weight.detach() - method.state_dict()["z.w"]).norm()))
    return weight.detach(), truth, gaps


def test_on_a_quadratic_the_residual_vanishes_at_the_sparse_solution() -> None:
    weight, truth, gaps = quadratic(400, rho=0.5, growth=50.0, end=0.9, interval=5)
    assert gaps[-1] < 1e-3 * gaps[0]
    torch.testing.assert_close(weight, truth, atol=0.01, rtol=0)


def test_the_cut_leaves_the_support_of_z_and_not_the_largest_weights() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 1.1]]))
    method = build(
        "admm", {"rho": 1e-6, "growth": 1.0, "end": 0.5, "interval": 1}, PruningContext({"w": weight}, 0.5, 8)
    )
    method.start()
    for step in range(3):
        method.after_step(Progress(step, 8, 0, 0.1))
    method._u["w"].copy_(torch.tensor([[0.5, 0.0]]))  # the duals have long asked for the first
    method.after_step(Progress(3, 8, 0, 0.1))
    assert method.masks()["w"].tolist() == [[True, False]]
    assert float(weight.detach()[0, 0]) == pytest.approx(1.0, abs=1e-4)


def test_the_residual_of_training_shrinks_before_the_cut() -> None:
    model = toy()
    method = build("admm", {}, context_for(model, 0.8, 200))
    loop = Loop(model, method, 200)

    def gap() -> float:
        state = method.state_dict()
        return sum(float((w.detach() - state[f"z.{name}"]).square().sum()) for name, w in matrices(model).items())

    loop.run(until=1)
    first = gap()
    loop.run(until=99)
    assert gap() < 0.05 * first
    assert all(mask.all() for mask in method.masks().values())
    loop.run(until=100)
    assert sum(int((~mask).sum()) for mask in method.masks().values()) == method.context.zeros
