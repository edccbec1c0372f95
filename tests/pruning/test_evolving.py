"""SET and RigL: the count stays, connections come and go."""

from __future__ import annotations

import math

import pytest
import torch
from support.toy_training import RATE, Loop, build, context_for, toy

from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.methods.rigl import RigL

STEPS = 80


def due_steps(method) -> list[int]:
    return [step for step in range(1, STEPS) if method.schedule.due(step)]


@pytest.mark.parametrize("name", ["set", "rigl"])
@pytest.mark.parametrize("params", [{}, {"initial": "random"}, {"pattern": "2:4"}, {"pattern": "4x2"}])
def test_every_matrix_keeps_its_count_from_the_first_step_on(name: str, params: dict[str, object]) -> None:
    model = toy()
    method = build(name, {"interval": 4, "allocation": "erk"} | params, context_for(model, 0.8, STEPS))
    loop = Loop(model, method, STEPS)
    loop.run(until=0)
    first = method.masks()
    counts = {key: int(mask.sum()) for key, mask in first.items()}
    assert sum(mask.numel() for mask in first.values()) - sum(counts.values()) == method.context.zeros
    changed = 0
    for done in range(1, STEPS + 1):
        before = method.masks()
        loop.run(until=done)
        masks = method.masks()
        assert {key: int(mask.sum()) for key, mask in masks.items()} == counts
        moved = any(not torch.equal(masks[key], before[key]) for key in masks)
        assert not moved or done - 1 in due_steps(method)
        changed += moved
    assert changed >= 3
    assert due_steps(method)[-1] == 60


def one_update(name: str, weight: torch.Tensor, gradient: torch.Tensor, zeros: int, seed: int = 0, **params: object):
    """Mask and weight before and after the first update of a run, in the middle of the cosine."""
    parameter = torch.nn.Parameter(weight.clone())
    context = PruningContext({"w": parameter}, zeros / weight.numel(), STEPS, seed)
    method = build(name, {"interval": 40, "end": 1.0, "fraction": 0.5} | params, context)
    method.start()
    before = method.masks()["w"]
    parameter.grad = gradient.clone()
    method.after_backward(Progress(40, STEPS, 0, RATE))
    return method, before, method.masks()["w"], parameter


def test_rigl_drops_the_smallest_and_grows_the_largest_gradients_of_all_that_is_not_kept() -> None:
    weight = torch.tensor([[8.0, -7.0, 6.0, 5.0, -4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2]])
    gradient = torch.tensor([[9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 0.1, 0.2, 5.0, -6.0, 0.3, 0.0]])
    _, before, after, parameter = one_update("rigl", weight, gradient, zeros=4)
    assert before[0].tolist() == [True] * 8 + [False] * 4
    # Half the cosine: a quarter of 8 goes, those of weight 2 and 1; gradients 6 and 5 are the largest outside.
    assert after[0].tolist() == [True] * 6 + [False, False, True, True, False, False]
    assert parameter.grad[0].tolist() == [9.0] * 6 + [0.0, 0.0, 5.0, -6.0, 0.0, 0.0], "the optimiser moves the grown"
    assert parameter.detach()[0, 8:10].abs().max() < 1e-6, "grown weights start at zero"


def test_as_in_the_paper_a_weight_just_dropped_may_grow_again_and_keeps_its_value() -> None:
    weight = torch.tensor([[8.0, 7.0, 6.0, 1.0, 0.5, 0.2]])
    gradient = torch.tensor([[0.0, 0.0, 0.0, 3.0, 2.0, 1.0]])
    _, before, after, parameter = one_update("rigl", weight, gradient, zeros=2)
    assert torch.equal(before, after)
    assert parameter[0, 3] == 1.0


def test_rigl_grows_exactly_the_top_dense_gradients_in_training() -> None:
    model = toy()
    method = build("rigl", {"interval": 5, "allocation": "erk"}, context_for(model, 0.8, STEPS))
    loop = Loop(model, method, STEPS)
    seen = []
    exchange = RigL._exchange

    def spy(name: str, weight: torch.Tensor, growth: torch.Tensor, fraction: float) -> torch.Tensor:
        before = method._masks[name]
        after = exchange(method, name, weight, growth, fraction)
        dropped = int(fraction * int(before.sum()))
        order = weight.abs().masked_fill(~before, torch.inf).reshape(-1).argsort()[:dropped]
        stays = before.clone().view(-1)
        stays[order] = False
        best = growth.reshape(-1).masked_fill(stays, -1.0).argsort(descending=True)[:dropped]
        grown = after.view(-1) & ~stays
        assert growth.reshape(-1)[grown].sort().values.tolist() == growth.reshape(-1)[best].sort().values.tolist()
        assert (after.view(-1) | ~stays).all(), "what was not dropped stays"
        seen.append(dropped)
        return after

    method._exchange = spy
    loop.run()
    assert sum(dropped > 0 for dropped in seen) > 20


def test_the_share_falls_along_a_cosine_or_stays() -> None:
    method = build("rigl", {"end": 0.5, "interval": 5}, context_for(toy(), 0.8, STEPS))
    assert method._annealed(0) == 1
    assert method._annealed(10) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert method._annealed(20) == pytest.approx(0.5)
    assert method._annealed(40) == pytest.approx(0)
    constant = build("set", {"end": 0.5, "interval": 5, "annealing": "constant"}, context_for(toy(), 0.8, STEPS))
    assert [constant._annealed(step) for step in (5, 39, 40)] == [1, 1, 0]


def test_set_grows_evenly_over_everything_outside_and_depends_on_seed_and_step_alone() -> None:
    weight = torch.arange(40.0, 0.0, -1).view(1, 40)
    grown = torch.zeros(40)
    for seed in range(400):
        _, _, after, _ = one_update("set", weight, torch.ones_like(weight), zeros=20, seed=seed)
        assert after[0, :15].all(), "three quarters stay"
        assert int(after.sum()) == 20
        grown += after[0]
    # 5 of 25 places at a time: a binomial of mean 80 and deviation 8 for each.
    assert (grown[15:] - 80).abs().max() < 4 * 8
    masks = [one_update("set", weight, torch.ones_like(weight) * s, zeros=20, seed=1)[2] for s in (1.0, -3.0)]
    assert torch.equal(*masks), "gradients do not matter"


def test_n_of_m_groups_grow_only_where_they_have_room() -> None:
    weight = torch.tensor([[8.0, 7.0, 1.0, 0.9, 6.0, 0.5, 0.4, 0.3]])
    gradient = torch.tensor([[0.0, 0.0, 9.0, 9.0, 0.0, 1.0, 2.0, 3.0]])
    _, before, after, _ = one_update("rigl", weight, gradient, zeros=5, pattern="2:4", fraction=0.99)
    assert before.int().tolist() == [[1, 1, 0, 0, 1, 0, 0, 0]]
    # int(0.495 * 3) = 1 goes, weight 6; its place is free for any, but the first group is full.
    assert after.int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 1]]


def test_blocks_come_and_go_whole() -> None:
    weight = torch.tensor([[8.0, 7.0, 6.0, 6.0, 1.0, 1.0, 0.5, 0.5], [8.0, 7.0, 6.0, 6.0, 1.0, 1.0, 0.5, 0.5]])
    gradient = torch.tensor([[0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 5.0, 5.0], [0.0] * 6 + [5.0, 5.0]])
    _, before, after, _ = one_update("rigl", weight, gradient, zeros=8, pattern="2x2", fraction=0.99)
    assert before.int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 2
    # int(0.495 * 8) = 3 of the second block should go, so all of it does; the last has the largest mean gradient.
    assert after.int().tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]] * 2


def test_where_nothing_has_a_gradient_nothing_changes() -> None:
    weight = torch.tensor([[0.5, 8.0, 0.4, 7.0, 6.0, 1.0]])
    _, before, after, _ = one_update("rigl", weight, torch.zeros_like(weight), zeros=2)
    assert torch.equal(before, after)
