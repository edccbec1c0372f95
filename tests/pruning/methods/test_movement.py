from __future__ import annotations

from itertools import pairwise

import torch
from support.toy_training import Loop, build, context_for, toy

from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.mask import highest_dropped
from cspbench.pruning.methods.movement import BETAS, EPSILON


def movement(weight: torch.nn.Parameter, sparsity: float, steps: int, **params: object):
    """The method with scores that begin at zero and take plain steps, which can be checked by hand."""
    paper = {"initial": "zero", "optimiser": "sgd", "score_rate": 1.0}
    return build("movement", paper | params, PruningContext({"w": weight}, sparsity, steps))


def test_by_default_scores_begin_at_the_magnitudes_and_move_from_there() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    method = movement(weight, 0.5, 10, score_rate=0.5, begin=0.3, initial="magnitude")
    step(method, weight, 0, [[1.0, 1.0]])
    assert method.state_dict()["score.w"].tolist() == [[2.0 - 0.5 * 2.0, 1.0 + 0.5 * 1.0]]


def step(method, weight: torch.nn.Parameter, number: int, gradient: list[list[float]], move: float = 0.0) -> None:
    progress = Progress(number, 10, 0, 0.1)
    method.before_forward(progress)
    weight.grad = torch.tensor(gradient)
    method.after_backward(progress)
    with torch.no_grad():
        weight += move
    method.after_step(progress)


def test_scores_add_up_minus_rate_times_gradient_times_weight() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0], [0.5, 4.0]]))
    method = movement(weight, 0.5, 10, score_rate=0.5, begin=0.3)
    step(method, weight, 0, [[1.0, 1.0], [-2.0, 0.0]], move=1.0)  # weights become 3, 0, 1.5, 5
    step(method, weight, 1, [[0.5, 3.0], [0.0, -1.0]])
    # -0.5 * (1*2 + 0.5*3), -0.5 * (1*-1 + 3*0), -0.5 * (-2*0.5 + 0*1.5), -0.5 * (0*4 + -1*5)
    assert method.state_dict()["score.w"].tolist() == [[-1.75, 0.5], [0.5, 2.5]]


def test_a_dropped_weight_keeps_its_value_its_score_learns_and_it_returns() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, 1.0]]))
    method = movement(weight, 0.5, 10, score_rate=1.0, begin=0.1, schedule="one_shot", interval=2)
    step(method, weight, 0, [[1.0, -1.0]])  # scores -2, 1: the larger weight goes, it was moving to zero
    assert weight.tolist() == [[0.0, 1.0]]
    step(method, weight, 1, [[-4.0, 0.0]])  # straight through: score -2 + 4 * 2
    assert weight.tolist() == [[0.0, 1.0]]
    assert method.state_dict()["score.w"].tolist() == [[6.0, 1.0]]
    step(method, weight, 2, [[0.0, 0.0]])
    assert weight.tolist() == [[2.0, 0.0]]


def test_the_optimiser_sees_no_gradient_of_a_dropped_weight() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, 1.0]]))
    method = movement(weight, 0.5, 10, begin=0.1, schedule="one_shot")
    step(method, weight, 0, [[1.0, -1.0]])
    weight.grad = torch.tensor([[3.0, 3.0]])
    method.after_backward(Progress(1, 10, 0, 0.1))
    assert weight.grad.tolist() == [[0.0, 3.0]]
    assert weight.tolist() == [[2.0, 1.0]]  # the optimiser moves the stored value


def test_an_overflowing_gradient_leaves_the_scores_alone() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, 1.0]]))
    method = movement(weight, 0.5, 10)
    step(method, weight, 0, [[float("nan"), float("inf")]])
    assert method.state_dict()["score.w"].tolist() == [[0.0, 0.0]]


def test_soft_regulariser_draws_scores_down() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0]]))
    method = movement(weight, 0.0, 10, variant="soft", score_rate=2.0, regulariser=0.1)
    step(method, weight, 0, [[0.0]])
    assert torch.allclose(method.state_dict()["score.w"], torch.tensor([[-2.0 * 0.1 * 0.25]]))


def test_between_updates_the_soft_mask_is_the_scores_above_the_threshold() -> None:
    model = toy()
    params = {"variant": "soft", "interval": 5, "end": 0.8, "score_rate": 0.01}
    method = build("movement", params, context_for(model, 0.8, 100))
    loop = Loop(model, method, 100)
    counts = []
    for done in range(21, 79):
        loop.run(until=done)
        state, masks = method.state_dict(), method.masks()
        for name, mask in masks.items():
            assert torch.equal(mask, state[f"score.{name}"] > state[f"threshold.{name}"])
        counts.append(sum(int((~m).sum()) for m in masks.values()))
    held = [now != before for before, now in pairwise(counts)]
    assert sum(held) > 58 / 5, "the count floats between updates"


def test_scores_learn_by_adam() -> None:
    """Against torch's, at a rate that follows the learning rate of the weights."""
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0, 0.5]]))
    scores = torch.nn.Parameter(weight.detach().abs())
    adam = torch.optim.Adam([scores], lr=0.01, betas=BETAS, eps=EPSILON)
    context = PruningContext({"w": weight}, 0.5, 4, learning_rate=lambda step: [1.0, 2.0, 1.0, 0.0][step])
    method = build("movement", {"score_rate": 0.01, "begin": 0.3}, context)
    for number, gradient in enumerate([[1.0, -2.0, 0.1], [0.5, 3.0, -0.1], [0.0, 1.0, 1.0]]):
        weight.grad = torch.tensor([gradient])
        scores.grad = weight.grad * weight.detach()
        adam.param_groups[0]["lr"] = 0.01 * [1.0, 2.0, 1.0][number]
        adam.step()
        method.after_backward(Progress(number, 4, 0, 0.1))
        torch.testing.assert_close(method.state_dict()["score.w"], scores.detach())


def test_highest_dropped_score() -> None:
    scores = {"a": torch.tensor([1.0, 5.0]), "b": torch.tensor([2.0, 3.0])}
    masks = {"a": torch.tensor([False, True]), "b": torch.tensor([False, True])}
    assert {k: float(v) for k, v in highest_dropped(scores, masks, "uniform").items()} == {"a": 1.0, "b": 2.0}
    assert {k: float(v) for k, v in highest_dropped(scores, masks, "global").items()} == {"a": 2.0, "b": 2.0}
