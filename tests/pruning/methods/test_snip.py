from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, batch, build, context_for, loss_of, matrices, toy


def sensitivity(batches: int) -> dict[str, torch.Tensor]:
    """The definition: derivative of the loss by a gate on each weight, all gates at 1, in double precision."""
    model = toy().double()
    weights = {name: w.detach() for name, w in model.named_parameters()}
    gates = {name: torch.ones_like(weights[name], requires_grad=True) for name in matrices(model)}

    def loss(x: torch.Tensor) -> torch.Tensor:
        gated = weights | {name: weights[name] * gate for name, gate in gates.items()}

        def call(x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(model, gated, (x,))

        return loss_of(call, x)

    torch.stack([loss(batch(i).double()) for i in range(batches)]).mean().backward()
    found = {name: gate.grad.abs() for name, gate in gates.items()}
    total = sum(g.sum() for g in found.values())
    return {name: g / total for name, g in found.items()}


def test_the_scores_are_the_connection_sensitivity() -> None:
    model = toy()
    method = build("snip", {"batches": 1}, context_for(model, 0.8, 40))
    loop = Loop(model, method, 40)
    scores = {}
    prune = method._prune
    method._prune = lambda zeros: (scores.update(method._scores()), prune(zeros))
    loop.run(until=1)
    expected = sensitivity(1)
    assert sum(float(score.sum()) for score in scores.values()) == pytest.approx(1)
    for name, score in scores.items():
        assert torch.allclose(score, expected[name], rtol=1e-3, atol=1e-8), name


def test_the_definition_agrees_with_finite_differences() -> None:
    expected, step = sensitivity(1), 1e-6
    slopes = []
    for index in range(7):
        losses = []
        for sign in (1, -1):
            model = toy().double()
            with torch.no_grad():
                model.narrow.weight[0, index] *= 1 + sign * step
            losses.append(loss_of(model, batch(0).double()).item())
        slopes.append(abs(losses[0] - losses[1]) / (2 * step))
    found = torch.tensor(slopes, dtype=torch.float64)
    wanted = expected["narrow.weight"][0]
    assert torch.allclose(found / found.sum(), wanted / wanted.sum(), rtol=1e-4)


def test_the_weights_stand_still_until_the_cut_and_the_most_sensitive_stay_as_they_are() -> None:
    model = toy()
    before = {name: w.detach().clone() for name, w in matrices(model).items()}
    method = build("snip", {"batches": 5}, context_for(model, 0.8, 40))
    loop = Loop(model, method, 40)
    loop.run(until=4)
    assert all(torch.equal(w, before[name]) for name, w in matrices(model).items())
    assert all(mask.all() for mask in method.masks().values())
    loop.run(until=5)
    masks = method.masks()
    assert sum(int((~mask).sum()) for mask in masks.values()) == method.context.zeros
    assert all(torch.equal(w.detach(), before[name] * masks[name]) for name, w in matrices(model).items())
    loop.run()
    assert all(torch.equal(masks[name], mask) for name, mask in method.masks().items()), "one shot"


def test_a_short_budget_is_not_spent_on_measuring() -> None:
    model = toy()
    method = build("snip", {"batches": 30}, context_for(model, 0.8, 40))
    loop = Loop(model, method, 40)
    loop.run(until=10)
    assert not all(mask.all() for mask in method.masks().values())
