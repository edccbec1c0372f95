"""One suite over every registered method: what each must do whatever its score.

A method that someone registers runs the whole protocol with its defaults. The variants of the built-in ones, and every
kind of selection a method offers, take other paths through the same code: their count and their checkpoints are tested.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_training import Loop, Toy, build, context_for, matrices, toy, zeros
from torch import nn

from cspbench.errors import PruningError
from cspbench.pruning.evolving import EvolvingMethod
from cspbench.pruning.registry import methods, pruning_names
from cspbench.pruning.selection import Blocks, Groups, parse_pattern

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "magnitude": [
        {"schedule": "one_shot"},
        {"schedule": "linear", "begin": 0.1, "end": 1.0, "interval": 7},
    ],
    "movement": [
        {"variant": "soft"},
        {"initial": "zero", "optimiser": "sgd", "score_rate": 1.0},
        {"variant": "soft", "allocation": "uniform", "end": 1.0},
        {"variant": "soft", "pattern": "2:4"},
        {"schedule": "one_shot"},
    ],
    "l1": [{"strength": 0.1}, {"strength": 10.0}, {"end": 1.0}],
    "snip": [{"batches": 1}],
    "fisher_magnitude": [{"sensitivity": 1.0}],
    "set": [{"initial": "random", "annealing": "constant", "end": 1.0, "interval": 1}],
    "rigl": [
        {"initial": "random", "annealing": "constant", "end": 1.0, "interval": 1},
        {"interval": 1, "pattern": "4x2"},
        {"interval": 1, "pattern": "2:4", "fraction": 0.5},
    ],
    "lottery": [
        {"allocation": "uniform", "rounds": 1},
        {"share": 0.4, "round_steps": 0.25, "rewind": 0.0},
        {"rewinding": "learning_rate", "rounds": 2},
    ],
    "csp": [
        {"allocation": "uniform", "schedule": "linear"},
        {"schedule": "one_shot"},
        {"ensemble": "identity", "patience": 2, "rho": 0.2},
        {"ensemble": "activation", "patience": 1, "end": 1.0, "shrink": 0.01},
        {"ensemble": "gaussian", "recovery": "iht", "iterations": 4},
        {"ensemble": "rademacher", "recovery": "ista", "iterations": 5, "debias_steps": 0},
        {"ensemble": "dct", "recovery": "fista", "iterations": 5},
        {"recovery": "htp", "iterations": 4},
        {"ranking": "magnitude", "recovery": "pursuit", "target": "teacher"},
        {"allocation": "dual", "pattern": "4x2"},
    ],
    "greg": [{"variant": 2}, {"variant": 2, "grow": 1.0, "interval": 1}],
    "xrda": [{"averaging": "dual", "interval": 3}, {"averaging": "none", "contrast": 1.0}, {"scaling": "none"}],
    "admm": [{"growth": 1.0, "end": 1.0}],
    "acdc": [{"warmup": 0.0, "cycles": 2, "end": 1.0}],
    "obs": [{"block": 4, "damping": 1.0}, {"schedule": "one_shot", "begin": 0.2}],
    "wanda": [{"allocation": "global"}, {"comparison": "matrix", "sequential": False}, {"fine_tune": True}],
    "sparsegpt": [{"allocation": "global"}, {"block": 4, "fine_tune": True}, {"fine_tune": True, "ramp": 0.6}],
}
SELECTIONS: list[dict[str, Any]] = [
    {"refit": True},
    {"pattern": "2:4"},
    {"pattern": "4x2"},
    {"allocation": "erk"},
    {"allocation": "uniform", "density": {"lstm": 0.5, "weight_hh": 3.0}},
]


def variants(name: str) -> list[dict[str, Any]]:
    """Variants of its own, and every kind of selection the method offers."""
    offered = methods.get(name).Params.model_fields
    return [*VARIANTS.get(name, []), *(choice for choice in SELECTIONS if offered.keys() >= choice.keys())]


CASES = [(name, params) for name in pruning_names() for params in variants(name)]
IDS = [f"{name}-{'-'.join(map(str, params.values()))}" for name, params in CASES]
every_method = pytest.mark.parametrize("name", pruning_names())
every_variant = pytest.mark.parametrize(("name", "params"), CASES, ids=IDS)
STEPS = 10
CHECKPOINTS = (0.1, 0.5, 1.0)
"""Fractions of a run after which it is saved: before, in and after the ramp."""


def start(
    name: str, params: dict[str, Any], sparsity: float, seed: int = 0, model: Toy | None = None, steps: int = STEPS
) -> Loop:
    model = toy() if model is None else model
    return Loop(model, build(name, params, context_for(model, sparsity, steps, seed)), steps)


def train(name: str, params: dict[str, Any], sparsity: float, **changes: Any) -> Loop:
    loop = start(name, params, sparsity, **changes)
    loop.run()
    return loop


def tied() -> Toy:
    """Model of equal weights, so that only an exact count by index can be right."""
    model = toy()
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.1)
    return model


def assert_same_weights(left: nn.Module, right: nn.Module) -> None:
    for (name, a), b in zip(left.named_parameters(), right.parameters(), strict=True):
        assert torch.equal(a, b), name


def assert_exact(loop: Loop) -> None:
    """Assert that as many weights are zero as asked for, and that these are the ones the masks name."""
    assert loop.method is not None
    masks = loop.method.masks()
    weights = loop.method.context.weights
    assert sum(int((~mask).sum()) for mask in masks.values()) == loop.method.context.zeros
    assert list(masks) == list(weights)
    for key, weight in weights.items():
        assert masks[key].dtype == torch.bool
        assert masks[key].device == weight.device
        assert torch.equal(weight != 0, masks[key]), key


def assert_pattern(loop: Loop, text: str) -> None:
    """Assert that no group keeps too many, or that at most one block of a ranking is cut in part."""
    assert loop.method is not None
    masks, pattern = loop.method.masks(), parse_pattern(text)
    if isinstance(pattern, Groups):
        for mask in masks.values():
            assert all(int(group.sum(1).max()) <= pattern.keep for group in mask.split(pattern.of, 1))
    if isinstance(pattern, Blocks):
        # Evolving methods exchange within each matrix, whatever ranked the first masks.
        together = loop.method.params.allocation == "global" and not isinstance(loop.method, EvolvingMethod)
        tiles = [t for m in masks.values() for rows in m.split(pattern.rows) for t in rows.split(pattern.columns, 1)]
        assert sum(bool(tile.any() and not tile.all()) for tile in tiles) <= (1 if together else len(masks))


def assert_resumes(name: str, params: dict[str, Any], fraction: float) -> None:
    """Assert that a run continued from a checkpoint ends bit for bit as the run that was not interrupted."""
    whole = start(name, params, 0.8)
    whole.run(until=round(fraction * whole.total))
    saved = whole.save()
    whole.run()  # what happens after the checkpoint must not reach into it
    resumed = start(name, params, 0.8, model=toy(seed=5))
    resumed.load(saved)
    resumed.run()
    assert_same_weights(resumed.model, whole.model)
    for key, mask in whole.method.masks().items():
        assert torch.equal(mask, resumed.method.masks()[key])


@every_variant
def test_a_variant_counts_exactly(name: str, params: dict[str, Any]) -> None:
    """At a high sparsity, at a moderate one, with tied weights and in one step; and in the pattern asked for."""
    for sparsity, model, steps in ((0.96, toy(), STEPS), (0.6, toy(), STEPS), (0.6, tied(), STEPS), (0.6, toy(), 1)):
        loop = train(name, params, sparsity, model=model, steps=steps)
        assert_exact(loop)
        assert_pattern(loop, params.get("pattern", "unstructured"))


@every_variant
def test_a_resumed_variant_is_bit_identical(name: str, params: dict[str, Any]) -> None:
    for fraction in CHECKPOINTS:
        assert_resumes(name, params, fraction)


@pytest.mark.parametrize(
    "name", [name for name in pruning_names() if "pattern" in methods.get(name).Params.model_fields]
)
def test_a_pattern_that_needs_more_zeros_is_refused(name: str) -> None:
    with pytest.raises(PruningError, match=r"pattern 2:4 keeps at most 427 of 738"):
        start(name, {"pattern": "2:4"}, 0.31)


@pytest.mark.parametrize("sparsity", [0.31, 0.96])
@every_method
def test_exact_count(name: str, sparsity: float) -> None:
    assert_exact(train(name, {}, sparsity))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every_method
def test_exact_count_on_cuda(name: str) -> None:
    assert_exact(train(name, {}, 0.8, model=toy(device="cuda")))


@every_method
def test_sparsity_zero_leaves_the_weights_alone(name: str) -> None:
    pruned = train(name, {}, 0.0)
    plain = Loop(toy(), None, STEPS)
    plain.run(until=pruned.total)
    assert pruned.total in (0, STEPS)
    assert_same_weights(pruned.model, plain.model)
    assert all(mask.all() for mask in pruned.method.masks().values())


@every_method
def test_masks_say_where_the_zeros_are_all_along(name: str) -> None:
    loop = start(name, {}, 0.8)
    for step in range(loop.total + 1):
        loop.run(until=step)
        for key, mask in loop.method.masks().items():
            assert torch.equal(matrices(loop.model)[key] != 0, mask), (step, key)


@every_method
def test_ties(name: str) -> None:
    model = tied()
    constant = {k: p.detach().clone() for k, p in model.named_parameters()}
    context = context_for(model, 0.5, STEPS, snapshot=lambda fraction: constant)
    loop = Loop(model, build(name, {}, context), STEPS)
    loop.run()
    assert_exact(loop)


@every_method
def test_same_seed_same_result(name: str) -> None:
    first, second = train(name, {}, 0.7, seed=3), train(name, {}, 0.7, seed=3)
    assert_same_weights(first.model, second.model)


@every_method
def test_finish_twice_changes_nothing(name: str) -> None:
    loop = train(name, {}, 0.7)
    before = {k: v.clone() for k, v in loop.model.state_dict().items()}
    masks = {k: v.clone() for k, v in loop.method.masks().items()}
    loop.method.finish()
    assert all(torch.equal(before[k], v) for k, v in loop.model.state_dict().items())
    assert all(torch.equal(masks[k], v) for k, v in loop.method.masks().items())


@pytest.mark.parametrize("fraction", CHECKPOINTS)
@every_method
def test_a_resumed_run_is_bit_identical(name: str, fraction: float) -> None:
    assert_resumes(name, {}, fraction)


@every_method
def test_state_is_flat_tensors_and_a_foreign_one_is_refused(name: str) -> None:
    method = train(name, {}, 0.5).method
    state = method.state_dict()
    assert state
    assert all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    assert all(value.is_contiguous() for value in state.values())
    with pytest.raises(PruningError, match="another model or method"):
        method.load_state_dict({})


@every_method
def test_nothing_prunable(name: str) -> None:
    model = toy()
    loop = Loop(model, build(name, {}, context_for(model, 0.0, STEPS, weights={})), STEPS)
    loop.run()
    assert loop.method.masks() == {}
    with pytest.raises(PruningError, match="nothing is prunable"):
        context_for(model, 0.5, weights={})


@every_method
def test_a_shared_weight_counts_once(name: str) -> None:
    model = toy()
    model.lstm.weight_hh_l1 = model.lstm.weight_hh_l0
    assert "lstm.weight_hh_l1" not in matrices(model)
    loop = train(name, {}, 0.8, model=model)
    assert_exact(loop)
    assert int((model.lstm.weight_hh_l1 == 0).sum()) == int((model.lstm.weight_hh_l0 == 0).sum())


@every_method
def test_budget_of_one_step(name: str) -> None:
    assert_exact(train(name, {}, 0.6, steps=1))


@every_method
def test_a_matrix_without_gradient(name: str) -> None:
    model = toy()
    model.unused = nn.Linear(4, 4)
    assert_exact(train(name, {}, 0.6, model=model))


TRAINING = [name for name in pruning_names() if start(name, {}, 0.5).total]
"""Methods that train, as opposed to those that prune once after training."""


@pytest.mark.parametrize("name", TRAINING)
def test_training_goes_on_after_the_cut(name: str) -> None:
    loop = start(name, {}, 0.5)
    loop.run(until=loop.total - 1)
    before = {key: w.detach().clone() for key, w in matrices(loop.model).items()}
    loop.run()
    kept = loop.method.masks()
    assert any((w != before[key])[kept[key]].any() for key, w in matrices(loop.model).items())


def test_the_zeros_survive_the_model_being_saved_and_reloaded() -> None:
    loop = train("magnitude", {}, 0.9)
    copy = toy(seed=7)
    copy.load_state_dict(loop.model.state_dict())
    assert zeros(copy) == loop.method.context.zeros
    assert_same_weights(copy, loop.model)
