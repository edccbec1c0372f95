from __future__ import annotations

import torch
from support.toy_training import Loop, build, context_for, toy

from cspbench.pruning.methods.random import random_scores


def test_masks_are_nested_along_the_ramp_and_differ_between_seeds() -> None:
    model = toy()
    method = build("random", {"interval": 1}, context_for(model, 0.9, 40, seed=1))
    loop = Loop(model, method, 40)
    gone = {name: ~mask for name, mask in method.masks().items()}
    for done in range(0, 41, 4):
        loop.run(until=done)
        masks = method.masks()
        assert not any((masks[name] & gone[name]).any() for name in masks)
        gone = {name: ~mask for name, mask in masks.items()}
    other = toy()
    second = build("random", {"interval": 1}, context_for(other, 0.9, 40, seed=2))
    Loop(other, second, 40).run()
    assert any(not torch.equal(second.masks()[name], ~gone[name]) for name in gone)


def test_the_order_has_nothing_to_do_with_the_weights() -> None:
    weights = {"a": torch.rand(200, 300)}
    scores = random_scores(weights, 3)["a"]
    assert torch.equal(scores, random_scores(weights, 3)["a"])
    assert abs(float(torch.corrcoef(torch.stack([scores.reshape(-1), weights["a"].reshape(-1)]))[0, 1])) < 0.02
    assert not torch.equal(scores, random_scores(weights, 3, 0)["a"])
