from __future__ import annotations

import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.pruning import PruningContext


def test_literal_weights_in_literal_zeros_out() -> None:
    weights = {
        "a": torch.nn.Parameter(torch.tensor([[0.1, -5.0], [3.0, -0.2]])),
        "b": torch.nn.Parameter(torch.tensor([[0.3, -0.05, 2.0]])),
    }
    method = build("magnitude", {"schedule": "one_shot"}, PruningContext(weights, 4 / 7, 10))
    method.start()
    assert weights["a"].tolist() == [[0.0, -5.0], [3.0, 0.0]]
    assert torch.equal(weights["b"], torch.tensor([[0.0, 0.0, 2.0]]))


def test_gradual_zeros_follow_the_cubic_ramp_and_never_come_back() -> None:
    model = toy()
    method = build("magnitude", {"interval": 5, "end": 0.5}, context_for(model, 0.9, 100))
    loop = Loop(model, method, 100)
    target = method.context.zeros
    gone = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in matrices(model).items()}
    for step in range(5, 101, 5):
        loop.run(until=step)
        zeros = {name: w == 0 for name, w in matrices(model).items()}
        share = 1 - (1 - min(1.0, step / 50)) ** 3
        assert sum(int(z.sum()) for z in zeros.values()) == round(share * target)
        assert all((zeros[name] | ~gone[name]).all() for name in zeros)
        gone = zeros


def test_gradients_of_dropped_weights_do_not_reach_the_optimiser() -> None:
    model = toy()
    method = build("magnitude", {"schedule": "one_shot"}, context_for(model, 0.8, 20))
    loop = Loop(model, method, 20)
    loop.run()
    for name, weight in matrices(model).items():
        moment = loop.optimizer.state[weight]["exp_avg"]
        assert (moment[~method.masks()[name]] == 0).all()
