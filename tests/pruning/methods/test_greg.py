from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.pruning import Progress, PruningContext


def penalties(steps: int, **params: object) -> list[float]:
    """The penalty after each step."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0]]))
    method = build("greg", params, PruningContext({"w": weight}, 0.5, steps))
    method.start()
    found = []
    for step in range(steps):
        method.after_step(Progress(step, steps, 0, 0.0))
        found.append(float(method.state_dict()["greg.penalty"]))
    return found


def test_the_penalty_grows_by_equal_amounts_every_k_steps_and_stays_at_its_ceiling() -> None:
    found = penalties(100, ceiling=8.0, grow=0.4, end=0.6, interval=5)
    assert found[3] == 0.0
    assert found[4] == 1.0  # after five steps
    assert found[8] == 1.0
    assert found[9:40:5] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert set(found[39:]) == {8.0}


def test_variant_2_has_two_growths() -> None:
    found = penalties(100, variant=2, pick=0.2, pick_ceiling=4.0, ceiling=12.0, grow=0.4, interval=2)
    assert found[9] == pytest.approx(2.0)
    assert found[19] == pytest.approx(4.0)
    assert found[29] == pytest.approx(8.0)
    assert found[39:] == pytest.approx([12.0] * 61)


def test_variant_2_reaches_the_ceiling_even_if_no_time_is_left_to_grow() -> None:
    found = penalties(100, variant=2, pick=0.2, pick_ceiling=4.0, ceiling=12.0, grow=0.2, interval=2)
    assert found[18] == pytest.approx(3.6)
    assert found[19:] == pytest.approx([12.0] * 81)


def test_only_the_chosen_are_decayed_and_the_choice_is_kept() -> None:
    weight = torch.nn.Parameter(torch.tensor([[0.1, -0.2, 5.0, -4.0]]))
    method = build("greg", {"ceiling": 10.0, "interval": 1, "end": 0.9}, PruningContext({"w": weight}, 0.5, 20))
    method.start()
    with torch.no_grad():
        weight[0, 1] = -9.0  # training may enlarge what was chosen: it goes none the less
    for step in range(17):
        method.after_step(Progress(step, 20, 0, 0.5))
    assert weight[0, 2:].tolist() == [5.0, -4.0]
    assert 0 < weight[0, 0] < 1e-6
    assert -1e-3 < weight[0, 1] < 0
    method.after_step(Progress(17, 20, 0, 0.5))
    assert method.masks()["w"].tolist() == [[False, False, True, True]]


def test_one_step_of_decay_is_the_proximal_step() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 3.0]]))
    method = build("greg", {"ceiling": 8.0, "grow": 0.4, "interval": 1}, PruningContext({"w": weight}, 0.5, 20))
    method.start()
    method.after_step(Progress(0, 20, 0, 0.25))  # nothing yet: the penalty is raised afterwards
    assert weight.tolist() == [[1.0, 3.0]]
    method.after_step(Progress(1, 20, 0, 0.25))
    assert weight.tolist() == [[pytest.approx(1 / (1 + 0.25 * 1.0)), 3.0]]  # the first of eight equal raises


def test_variant_2_penalises_all_until_the_choice_and_frees_the_kept() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 1.1]]))
    params = {"variant": 2, "pick": 0.1, "interval": 1, "end": 0.9}
    method = build("greg", params, PruningContext({"w": weight}, 0.5, 20))
    method.start()
    method.after_step(Progress(0, 20, 0, 0.1))
    method.after_step(Progress(1, 20, 0, 0.1))  # the choice
    assert weight[0, 1] < 1.1
    assert method.state_dict()["chosen.w"].tolist() == [[True, False]]
    before = weight[0, 1].item()
    method.after_step(Progress(2, 20, 0, 0.1))
    assert weight[0, 1].item() == before
    assert weight[0, 0].item() < before / 1.1


def test_curvature_decides_in_variant_2() -> None:
    """Of two equal weights the one whose loss is flatter yields more to the common penalty."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 1.0]]))
    curvature = torch.tensor([[0.1, 10.0]])
    params = {"variant": 2, "pick": 0.2, "pick_ceiling": 1.0, "interval": 1}
    method = build("greg", params, PruningContext({"w": weight}, 0.5, 100))
    method.start()
    for step in range(20):
        with torch.no_grad():
            weight -= 0.05 * curvature * (weight - 1)
        method.after_step(Progress(step, 100, 0, 0.05))
    assert method.state_dict()["chosen.w"].tolist() == [[True, False]]


@pytest.mark.parametrize("variant", [1, 2])
def test_what_is_cut_had_all_but_gone(variant: int) -> None:
    model = toy()
    method = build("greg", {"variant": variant}, context_for(model, 0.7, 200))
    before = {name: w.detach().clone() for name, w in matrices(model).items()}
    loop = Loop(model, method, 200)
    loop.run(until=99)
    chosen = {name: method.state_dict()[f"chosen.{name}"] for name in before}
    assert sum(int(c.sum()) for c in chosen.values()) == method.context.zeros
    left = torch.cat([w.detach()[chosen[name]].abs() for name, w in matrices(model).items()])
    kept = torch.cat([w.detach()[~chosen[name]].abs() for name, w in matrices(model).items()])
    assert left.mean() < 0.02 * kept.mean()
    assert left.min() > 0
    loop.run()
    assert all(torch.equal(method.masks()[name], ~chosen[name]) for name in before)
