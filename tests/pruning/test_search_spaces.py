"""Whatever a search varies has an effect: a range of an option that the defaults ignore wastes trials."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_training import Loop, build, context_for, toy

from cspbench.pruning.registry import methods, pruning_names

STEPS = 24
TOO_FINE = {"interval", "block"}
"""Options that matter in runs of hundreds of steps and matrices of dozens of columns only."""


def outcome(name: str, params: dict[str, Any]) -> torch.Tensor:
    model = toy()
    loop = Loop(model, build(name, params, context_for(model, 0.5, STEPS)), STEPS)
    loop.run()
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


@pytest.mark.parametrize("name", pruning_names())
def test_every_searched_option_changes_the_outcome(name: str) -> None:
    plain = outcome(name, {})
    for option, search in methods.get(name).Params.search_space().items():
        if option in TOO_FINE:
            continue
        values = search.choices or (search.high, search.low)
        assert any(not torch.equal(outcome(name, {option: value}), plain) for value in values), option
