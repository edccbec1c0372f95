from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy, toy_grams

from cspbench.errors import PruningError
from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.fisher import importance
from cspbench.pruning.mask import select
from cspbench.pruning.methods.csp.method import CSPParams
from cspbench.pruning.methods.csp.recovery import build_operators, compression_error, recover


def problem(**params: object):
    model = toy()
    options = CSPParams(**params)
    weights = {name: w.detach() for name, w in matrices(model).items()}
    return weights, build_operators(weights, options, 0, toy_grams(model)), options


def cut(weights: dict[str, torch.Tensor], zeros: int) -> dict[str, torch.Tensor]:
    masks = select({name: w.abs() for name, w in weights.items()}, zeros, CSPParams())
    return {name: w * masks[name] for name, w in weights.items()}


@pytest.mark.parametrize("ensemble", ["activation", "identity", "gaussian", "rademacher", "dct"])
@pytest.mark.parametrize("zeros", [50, 300, 600])
def test_the_measured_error_is_at_most_that_of_the_plain_cut(ensemble: str, zeros: int) -> None:
    weights, operators, params = problem(ensemble=ensemble)
    masks, values = recover(weights, operators, zeros, params)
    assert sum(int((~m).sum()) for m in masks.values()) == zeros
    error = compression_error(weights, values, operators)
    plain = compression_error(weights, cut(weights, zeros), operators)
    assert error <= plain * (1 + 1e-5)
    if ensemble == "activation":
        assert error < 0.95 * plain


def test_more_debiasing_and_regrowth_only_lower_the_error() -> None:
    errors = []
    for steps, iterations in [(0, 1), (4, 1), (12, 1), (40, 1), (40, 5)]:
        weights, operators, params = problem(debias_steps=steps, iterations=iterations)
        errors.append(compression_error(weights, recover(weights, operators, 400, params)[1], operators))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("recovery", ["htp", "iht", "ista", "fista"])
def test_identity_sensing_is_magnitude_pruning(recovery: str) -> None:
    weights, operators, params = problem(ensemble="identity", recovery=recovery, iterations=3)
    masks, values = recover(weights, operators, 400, params)
    for name, plain in cut(weights, 400).items():
        assert torch.equal(masks[name], plain != 0)
        assert torch.allclose(values[name], plain, atol=1e-6)


def test_identity_csp_trains_like_magnitude_pruning() -> None:
    runs = {}
    ramp = {"interval": 5, "end": 0.5}
    for name, params in {"csp": {"ensemble": "identity", "sensitivity": 0, **ramp}, "magnitude": ramp}.items():
        runs[name] = toy()
        Loop(runs[name], build(name, params, context_for(runs[name], 0.8, 40)), 40).run()
    for left, right in zip(runs["csp"].parameters(), runs["magnitude"].parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_sensing_replaces_the_weights_by_their_recovery() -> None:
    model = toy()
    context = context_for(model, 0.7, 20)
    weights = {name: w.detach().clone() for name, w in matrices(model).items()}
    params = CSPParams()
    operators = build_operators(weights, params, 0, lambda: context.grams(params.calibration, 0))
    no_gradient = {name: torch.zeros(w.shape[0], 1) for name, w in weights.items()}
    powers = {name: operator.gram().diagonal() for name, operator in operators.items()}
    worth = importance(powers, no_gradient, params.sensitivity)
    _, expected = recover(weights, operators, context.zeros, params, worth)
    build("csp", {"schedule": "one_shot"}, context).start()
    for name, weight in matrices(model).items():
        assert torch.equal(weight, expected[name])


def test_rows_whose_output_the_loss_feels_keep_more() -> None:
    weight = torch.nn.Parameter(torch.randn(2, 400, generator=torch.Generator().manual_seed(0)))
    context = PruningContext({"w": weight}, 0.8, 10, grams=lambda *_: {"w": torch.eye(400)})
    method = build("csp", {"debias_steps": 0}, context)
    method.start()
    gradient = torch.tensor([[1.0], [0.1]]).expand(2, 400)
    for step in range(10):
        method.observe_gradients(Progress(step, 10, 0, 1e-3), {"w": gradient})
        method.after_step(Progress(step, 10, 0, 1e-3))
    method.finish()
    kept = method.masks()["w"].sum(1)
    assert kept[0] > 2 * kept[1] > 0


def test_without_fine_tuning_it_recovers_once_before_any_training() -> None:
    model = toy()
    method = build("csp", {"fine_tune": False}, context_for(model, 0.7, 20))
    assert method.phases() == []
    method.start()
    pruned = {name: w.detach().clone() for name, w in matrices(model).items()}
    method.finish()
    assert sum(int((w == 0).sum()) for w in pruned.values()) == method.context.zeros
    assert all(torch.equal(w, pruned[name]) for name, w in matrices(model).items())


def residual(model: torch.nn.Module, zeros: int) -> float:
    sizes = torch.cat([w.detach().reshape(-1).abs() for w in matrices(model).values()]).sort().values
    return float(sizes[:zeros].norm() / sizes.norm())


def test_with_patience_weights_fade_before_they_go() -> None:
    model = toy()
    params = {"ensemble": "identity", "patience": 2, "tolerance": 0.0, "rho": 0.3, "interval": 5, "end": 0.5}
    method = build("csp", params, context_for(model, 0.8, 80))
    loop = Loop(model, method, 80)
    dense = residual(model, method.context.zeros)
    loop.run(until=39)
    assert all(mask.all() for mask in method.masks().values()), "tolerance 0 lets none go before the end of the ramp"
    assert residual(model, method.context.zeros) < dense / 5, "the pull has left little to cut"
    loop.run(until=40)
    assert sum(int((~m).sum()) for m in method.masks().values()) == method.context.zeros


def test_tolerance_lets_harmless_weights_go_early() -> None:
    model = toy()
    params = {"ensemble": "identity", "patience": 2, "tolerance": 0.5, "rho": 0.3, "interval": 5, "end": 0.5}
    method = build("csp", params, context_for(model, 0.8, 80))
    Loop(model, method, 80).run(until=30)
    assert 0 < sum(int((~m).sum()) for m in method.masks().values()) < method.context.zeros


def test_activation_needs_calibration_data_and_the_others_do_not() -> None:
    context = context_for(toy(), 0.5, 10, grams=None)
    with pytest.raises(PruningError, match="choose ensemble"):
        build("csp", {}, context)
    build("csp", {"ensemble": "gaussian"}, context).start()


def test_a_second_moment_that_does_not_fit_names_the_matrix() -> None:
    model = toy()
    context = context_for(model, 0.5, 10, grams=lambda *_: {})
    with pytest.raises(PruningError, match=r"lstm\.weight_ih_l0.*\(5, 5\).*missing"):
        build("csp", {"schedule": "one_shot"}, context).start()


def test_recovered_infinities_are_reported() -> None:
    model = toy()
    broken = {name: torch.full((w.shape[1],) * 2, torch.nan) for name, w in matrices(model).items()}
    method = build(
        "csp", {"schedule": "one_shot", "sensitivity": 0}, context_for(model, 0.5, 10, grams=lambda *_: broken)
    )
    with pytest.raises(PruningError, match="not finite"):
        method.start()


def test_an_overflowing_gradient_leaves_no_trace() -> None:
    model = toy()
    method = build("csp", {}, context_for(model, 0.5, 10))
    gradients = {name: torch.full_like(weight, torch.nan) for name, weight in matrices(model).items()}
    for gradient in gradients.values():
        gradient[0] = torch.inf
    method.observe_gradients(Progress(0, 10, 0, 0.1), gradients)
    assert all(bool((x == 0).all()) for key, x in method.state_dict().items() if key.startswith("rows."))


def test_recovered_infinities_are_reported_with_regrowth() -> None:
    model = toy()
    broken = {name: torch.full((w.shape[1],) * 2, 1e38) for name, w in matrices(model).items()}
    params = {"schedule": "one_shot", "sensitivity": 0, "iterations": 3}
    method = build("csp", params, context_for(model, 0.5, 10, grams=lambda *_: broken))
    with pytest.raises(PruningError, match="NaN"):
        method.start()
