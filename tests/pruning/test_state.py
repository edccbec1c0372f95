"""Registered state: what a checkpoint holds of a method."""

from __future__ import annotations

import pytest
import torch
from support.toy_training import build, context_for, toy
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.pruning import PruningContext, RampedMethod
from cspbench.pruning.bases import RampParams

KEYS = {
    "admm": {"mask", "z", "u", "admm"},
    "csp": {"mask", "rows", "csp"},
    "greg": {"mask", "chosen", "greg"},
    "l1": {"mask", "threshold", "l1", "refit"},
    "magnitude": {"mask"},
    "movement": {"mask", "score", "stored", "threshold", "score_mean", "score_square"},
    "snip": {"mask", "gradient"},
    "xrda": {"mask", "dual", "penalty", "velocity", "magnitude", "squares", "ranked"},
}


@pytest.mark.parametrize("name", KEYS)
def test_checkpoint_keys_stay_as_they_were(name: str) -> None:
    """Checkpoints of earlier versions must load."""
    state = build(name, {}, context_for(toy(), 0.5)).state_dict()
    assert {key.split(".")[0] for key in state} == KEYS[name]


class Counting(RampedMethod):
    """A method with state of its own, and a mapping that is replaced as it runs."""

    def __init__(self, params: RampParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._seen = {name: torch.zeros_like(w) for name, w in context.weights.items()}
        self.register_state(seen="_seen")

    def _scores(self) -> dict[str, Tensor]:
        self._seen = {name: x + 1 for name, x in self._seen.items()}
        return self._seen


def test_state_registered_once_is_saved_and_loaded() -> None:
    def method() -> Counting:
        return Counting(RampParams(schedule="one_shot"), context_for(toy(), 0.5))

    first, second = method(), method()
    first.start()
    state = first.state_dict()
    assert all(bool((state[f"seen.{name}"] == 1).all()) for name in first.context.weights)
    second.load_state_dict(state)
    assert all(torch.equal(mask, second.masks()[name]) for name, mask in first.masks().items())
    assert all(torch.equal(second.state_dict()[key], tensor) for key, tensor in state.items())
    first.start()
    assert all(bool((state[f"seen.{name}"] == 1).all()) for name in first.context.weights), "a state is a copy"
    with pytest.raises(PruningError, match=r"'seen.lstm.weight_ih_l0' should have shape .* absent"):
        second.load_state_dict({key: tensor for key, tensor in state.items() if not key.startswith("seen")})
