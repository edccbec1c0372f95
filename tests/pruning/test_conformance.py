"""One suite over every registered method: what each must do whatever its score.

A method that someone registers is tested with its defaults; the built-in ones also in each of their variants.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy, zeros
from torch import nn

from cspbench.errors import PruningError
from cspbench.pruning.methods.evolution import EvolvingMethod
from cspbench.pruning.registry import methods
from cspbench.pruning.selection import Blocks, Groups, parse_pattern

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "magnitude": [
        {"schedule": "one_shot"},
        {"schedule": "linear", "begin": 0.1, "end": 1.0, "interval": 7},
    ],
    "movement": [
        {"variant": "soft"},
        {"initial": "zero"},
        {"variant": "soft", "allocation": "uniform", "end": 1.0},
        {"variant": "soft", "pattern": "2:4"},
        {"schedule": "one_shot"},
    ],
    "l1": [{"strength": 0.1}, {"strength": 10.0}, {"end": 1.0}],
    "snip": [{"batches": 1}],
    "set": [{"initial": "random", "annealing": "constant", "end": 1.0, "interval": 1}],
    "rigl": [
        {"initial": "random", "annealing": "constant", "end": 1.0, "interval": 1},
        {"interval": 1, "pattern": "4x2"},
        {"interval": 1, "pattern": "2:4", "fraction": 0.5},
    ],
    "lottery": [{"allocation": "uniform", "rounds": 1}, {"share": 0.4, "round_steps": 0.25, "rewind": 0.0}],
    "csp": [
        {"allocation": "uniform", "schedule": "linear"},
        {"schedule": "one_shot"},
        {"ensemble": "identity", "patience": 2, "rho": 0.2},
        {"ensemble": "activation", "patience": 1, "end": 1.0, "shrink": 0.01},
        {"ensemble": "gaussian", "recovery": "iht", "iterations": 4},
        {"ensemble": "rademacher", "recovery": "ista", "iterations": 5, "debias_steps": 0},
        {"ensemble": "dct", "recovery": "fista", "iterations": 5},
        {"recovery": "htp", "iterations": 4},
    ],
    "greg": [{"variant": 2}, {"variant": 2, "grow": 1.0, "interval": 1}],
    "xrda": [{"averaging": "dual", "interval": 3}, {"averaging": "none", "contrast": 1.0}, {"scaling": "none"}],
    "admm": [{"growth": 1.0, "end": 1.0}],
    "wanda": [{"allocation": "global"}, {"comparison": "matrix", "sequential": False}, {"fine_tune": True}],
    "sparsegpt": [{"allocation": "global"}, {"block": 4, "fine_tune": True}],
}
SELECTIONS: list[dict[str, Any]] = [
    {"pattern": "2:4"},
    {"pattern": "4x2"},
    {"allocation": "erk"},
    {"allocation": "uniform", "density": {"lstm": 0.5, "weight_hh": 3.0}},
]


def variants(name: str) -> list[dict[str, Any]]:
    """The defaults, variants of its own, and every kind of selection the method offers."""
    offered = methods.get(name).Params.model_fields
    return [{}, *VARIANTS.get(name, []), *(choice for choice in SELECTIONS if offered.keys() >= choice.keys())]


CASES = [(name, params) for name in methods.names() for params in variants(name)]
IDS = [f"{name}-{'-'.join(map(str, params.values())) or 'default'}" for name, params in CASES]
every_method = pytest.mark.parametrize(("name", "params"), CASES, ids=IDS)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]
STEPS = 10


def train(name: str, params: dict[str, Any], sparsity: float, seed: int = 0, device: str = "cpu") -> Loop:
    model = toy(device=device)
    loop = Loop(model, build(name, params, context_for(model, sparsity, STEPS, seed)), STEPS)
    loop.run()
    return loop


def assert_same_weights(left: nn.Module, right: nn.Module) -> None:
    for (name, a), b in zip(left.named_parameters(), right.parameters(), strict=True):
        assert torch.equal(a, b), name


def assert_exact(loop: Loop) -> None:
    assert loop.method is not None
    masks = loop.method.masks()
    weights = loop.method.context.weights
    assert sum(int((~mask).sum()) for mask in masks.values()) == loop.method.context.zeros
    assert list(masks) == list(weights)
    for key, weight in weights.items():
        assert masks[key].dtype == torch.bool
        assert masks[key].device == weight.device
        assert torch.equal(weight != 0, masks[key]), key


def assert_pattern(masks: dict[str, torch.Tensor], pattern: Groups | Blocks, rankings: int) -> None:
    """No group keeps too many; at most one block a ranking is cut in part."""
    if isinstance(pattern, Groups):
        for mask in masks.values():
            assert all(int(group.sum(1).max()) <= pattern.keep for group in mask.split(pattern.of, 1))
        return
    tiles = [t for m in masks.values() for rows in m.split(pattern.rows) for t in rows.split(pattern.columns, 1)]
    assert sum(bool(tile.any() and not tile.all()) for tile in tiles) <= rankings


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sparsity", [0.31, 0.96])
@every_method
def test_exact_count(name: str, params: dict[str, Any], sparsity: float, device: str) -> None:
    if params.get("pattern") == "2:4" and sparsity < 0.5:
        with pytest.raises(PruningError, match=r"pattern 2:4 keeps at most 427 of 738"):
            train(name, params, sparsity, device=device)
        return
    assert_exact(train(name, params, sparsity, device=device))


@every_method
def test_the_zeros_form_the_pattern(name: str, params: dict[str, Any]) -> None:
    pattern = parse_pattern(params.get("pattern", "unstructured"))
    if pattern is not None:
        method = train(name, params, 0.8).method
        # Evolving methods exchange within each matrix, whatever ranked the first masks.
        together = method.params.allocation == "global" and not isinstance(method, EvolvingMethod)
        rankings = 1 if together else len(method.masks())
        assert_pattern(method.masks(), pattern, rankings)


@every_method
def test_sparsity_zero_leaves_the_weights_alone(name: str, params: dict[str, Any]) -> None:
    pruned = train(name, params, 0.0)
    plain = Loop(toy(), None, STEPS)
    plain.run(until=pruned.total)
    assert pruned.total in (0, STEPS)
    assert_same_weights(pruned.model, plain.model)
    assert all(mask.all() for mask in pruned.method.masks().values())


@every_method
def test_masks_say_where_the_zeros_are_all_along(name: str, params: dict[str, Any]) -> None:
    model = toy()
    loop = Loop(model, build(name, params, context_for(model, 0.8, STEPS)), STEPS)
    for step in range(loop.total + 1):
        loop.run(until=step)
        for key, mask in loop.method.masks().items():
            assert torch.equal(matrices(model)[key] != 0, mask), (step, key)


@pytest.mark.parametrize("value", [0.1, -0.1])
@every_method
def test_ties(name: str, params: dict[str, Any], value: float) -> None:
    model = toy()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    constant = {k: torch.full_like(p, value) for k, p in model.named_parameters()}
    context = context_for(model, 0.5, STEPS, snapshot=lambda share: constant)
    loop = Loop(model, build(name, params, context), STEPS)
    loop.run()
    assert_exact(loop)


@every_method
def test_same_seed_same_result(name: str, params: dict[str, Any]) -> None:
    first, second = train(name, params, 0.7, seed=3), train(name, params, 0.7, seed=3)
    assert_same_weights(first.model, second.model)


@every_method
def test_finish_twice_changes_nothing(name: str, params: dict[str, Any]) -> None:
    loop = train(name, params, 0.7)
    before = {k: v.clone() for k, v in loop.model.state_dict().items()}
    masks = {k: v.clone() for k, v in loop.method.masks().items()}
    loop.method.finish()
    assert all(torch.equal(before[k], v) for k, v in loop.model.state_dict().items())
    assert all(torch.equal(masks[k], v) for k, v in loop.method.masks().items())


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@every_method
def test_a_resumed_run_is_bit_identical(name: str, params: dict[str, Any], share: float) -> None:
    model = toy()
    whole = Loop(model, build(name, params, context_for(model, 0.8, STEPS)), STEPS)
    whole.run(until=round(share * whole.total))
    saved = whole.save()
    whole.run()  # what happens after the checkpoint must not reach into it
    model = toy(seed=5)
    resumed = Loop(model, build(name, params, context_for(model, 0.8, STEPS)), STEPS)
    resumed.load(saved)
    resumed.run()
    assert_same_weights(resumed.model, whole.model)
    for key, mask in whole.method.masks().items():
        assert torch.equal(mask, resumed.method.masks()[key])


@every_method
def test_state_is_flat_tensors_and_a_foreign_one_is_refused(name: str, params: dict[str, Any]) -> None:
    method = train(name, params, 0.5).method
    state = method.state_dict()
    assert all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    assert all(value.is_contiguous() for value in state.values())
    with pytest.raises(PruningError, match="another model or method"):
        method.load_state_dict({})


@every_method
def test_nothing_prunable(name: str, params: dict[str, Any]) -> None:
    model = toy()
    loop = Loop(model, build(name, params, context_for(model, 0.0, STEPS, weights={})), STEPS)
    loop.run()
    assert loop.method.masks() == {}
    with pytest.raises(PruningError, match="nothing is prunable"):
        context_for(model, 0.5, weights={})


@every_method
def test_a_shared_weight_counts_once(name: str, params: dict[str, Any]) -> None:
    model = toy()
    model.lstm.weight_hh_l1 = model.lstm.weight_hh_l0
    assert "lstm.weight_hh_l1" not in matrices(model)
    loop = Loop(model, build(name, params, context_for(model, 0.8, STEPS)), STEPS)
    loop.run()
    assert_exact(loop)
    assert int((model.lstm.weight_hh_l1 == 0).sum()) == int((model.lstm.weight_hh_l0 == 0).sum())


@every_method
def test_budget_of_one_step(name: str, params: dict[str, Any]) -> None:
    model = toy()
    loop = Loop(model, build(name, params, context_for(model, 0.6, 1)), 1)
    loop.run()
    assert_exact(loop)


@every_method
def test_a_matrix_without_gradient(name: str, params: dict[str, Any]) -> None:
    model = toy()
    model.unused = nn.Linear(4, 4)
    loop = Loop(model, build(name, params, context_for(model, 0.6, STEPS)), STEPS)
    loop.run()
    assert_exact(loop)


@every_method
def test_training_goes_on_after_the_cut(name: str, params: dict[str, Any]) -> None:
    model = toy()
    loop = Loop(model, build(name, params, context_for(model, 0.5, STEPS)), STEPS)
    if not loop.total:
        pytest.skip("prunes after training")
    loop.run(until=loop.total - 1)
    before = {key: w.detach().clone() for key, w in matrices(model).items()}
    loop.run()
    kept = loop.method.masks()
    assert any((w != before[key])[kept[key]].any() for key, w in matrices(model).items())


def test_the_zeros_survive_the_model_being_saved_and_reloaded() -> None:
    loop = train("magnitude", {}, 0.9)
    copy = toy(seed=7)
    copy.load_state_dict(loop.model.state_dict())
    assert zeros(copy) == loop.method.context.zeros
    assert_same_weights(copy, loop.model)
