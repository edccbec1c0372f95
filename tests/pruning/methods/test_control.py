from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, toy

from cspbench.errors import PruningError


def test_it_trains_exactly_as_without_a_method() -> None:
    models = [toy(), toy()]
    control = build("control", {}, context_for(models[0], 0.0, 20))
    Loop(models[0], control, 20).run()
    Loop(models[1], None, 20).run()
    for left, right in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(left, right)
    assert all(bool(mask.all()) for mask in control.masks().values())
    assert [phase.steps for phase in control.phases()] == [20]
    assert control.state_dict() == {}


def test_it_refuses_to_prune() -> None:
    with pytest.raises(PruningError, match=r"prunes nothing: ask for sparsity 0, not 0\.9"):
        build("control", {}, context_for(toy(), 0.9))
