from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.errors import PruningError
from cspbench.pruning.methods.lottery import round_zeros
from cspbench.pruning.registry import methods


def test_every_round_takes_the_same_share_and_the_last_arrives_exactly() -> None:
    assert round_zeros(1000, 875, rounds=3, share=None) == [500, 750, 875]
    assert round_zeros(1000, 488, rounds=9, share=0.2) == [200, 360, 488]
    assert round_zeros(1000, 500, rounds=9, share=0.2) == [200, 360, 488, 500]
    assert round_zeros(1000, 100, rounds=9, share=0.2) == [100]
    assert round_zeros(10, 9, rounds=1, share=None) == [9]
    assert round_zeros(10, 0, rounds=3, share=None) == [0]


def test_phases_tell_what_it_costs() -> None:
    context = context_for(toy(), 0.8, 40)
    assert [p.steps for p in build("lottery", {"rounds": 2, "round_steps": 1.5}, context).phases()] == [60, 60]
    assert [p.steps for p in build("lottery", {"share": 0.5}, context).phases()] == [40, 40, 40]


def test_rewound_steps_are_given_back() -> None:
    context = context_for(toy(), 0.8, 40, dense_steps=1000)
    params = {"rounds": 2, "rewind": 0.25, "give_back": True}
    assert [p.steps for p in build("lottery", params, context).phases()] == [750, 750]
    with pytest.raises(PruningError, match="steps of the dense training"):
        build("lottery", params, context_for(toy(), 0.8, 40))


def test_twenty_percent_a_round_to_ninety_takes_eleven_rounds() -> None:
    context = context_for(toy(), 0.9, 40)
    assert len(build("lottery", {"share": 0.2, "round_steps": 0.1}, context).phases()) == 11


def test_learning_rate_rewinding_leaves_the_weights_as_trained() -> None:
    model = toy()
    context = context_for(model, 0.8, 10, snapshot=None, restore=None)
    method = build("lottery", {"rounds": 2, "rewinding": "learning_rate"}, context)
    Loop(model, method, 10).run(until=10)
    trained = {name: w.detach().clone() for name, w in model.named_parameters()}
    method.begin_phase(1)
    for name, parameter in model.named_parameters():
        mask = method.masks().get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter, trained[name] * mask), name


def test_survivors_and_biases_go_back_to_the_snapshot_exactly() -> None:
    model = toy()
    context = context_for(model, 0.8, 10)
    method = build("lottery", {"rounds": 2, "rewind": 0.25}, context)
    loop = Loop(model, method, 10)
    loop.run(until=10)
    trained = {name: w.detach().clone() for name, w in matrices(model).items()}
    method.begin_phase(1)
    early = context.snapshot(0.25)
    for name, parameter in model.named_parameters():
        mask = method.masks().get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter, early[name] * mask), name
    kept = torch.cat([trained[n][m].abs() for n, m in method.masks().items()])
    gone = torch.cat([trained[n][~m].abs() for n, m in method.masks().items()])
    assert kept.min() >= gone.max(), "magnitudes of the trained weights decide"


def test_without_snapshots_it_says_so_before_training() -> None:
    context = context_for(toy(), 0.8, 10, snapshot=None)
    with pytest.raises(PruningError, match="kept during the dense training"):
        build("lottery", {}, context)


def test_only_kept_rewind_points_are_accepted() -> None:
    with pytest.raises(ValidationError, match=r"kept at 0\.0, 0\.05"):
        methods.get("lottery").Params(rewind=0.3)
