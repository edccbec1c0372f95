from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy, toy_grams

from cspbench.errors import ConfigError, PruningError
from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.fisher import importance
from cspbench.pruning.mask import select
from cspbench.pruning.methods.csp.dual import dual_counts, update_left
from cspbench.pruning.methods.csp.method import CSPParams
from cspbench.pruning.methods.csp.recovery import RecoveryProblem, build_operators, compression_error, recover
from cspbench.pruning.registry import methods
from cspbench.sensing import Gram


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
    masks, values = recover(RecoveryProblem(weights, operators, zeros, {}), params)
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
        errors.append(
            compression_error(weights, recover(RecoveryProblem(weights, operators, 400, {}), params)[1], operators)
        )
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("recovery", ["htp", "iht", "ista", "fista"])
def test_identity_sensing_is_magnitude_pruning(recovery: str) -> None:
    weights, operators, params = problem(ensemble="identity", recovery=recovery, iterations=3)
    masks, values = recover(RecoveryProblem(weights, operators, 400, {}), params)
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
    _, expected = recover(RecoveryProblem(weights, operators, context.zeros, worth), params)
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


def trained(**params: object) -> torch.nn.Module:
    model = toy()
    Loop(model, build("csp", {"interval": 5} | params, context_for(model, 0.8, 40)), 40).run()
    return model


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


def test_each_part_switched_off_is_what_its_name_says() -> None:
    assert same(trained(ranking="magnitude"), trained(sensitivity=0))
    assert same(trained(recovery="none"), trained(debias_steps=0))
    assert same(trained(recovery="debias", iterations=5), trained())
    assert same(trained(recovery="pursuit"), trained(iterations=2))
    assert same(trained(recovery="pursuit", iterations=4), trained(iterations=4))
    assert same(trained(target="weights", allocation="global"), trained())
    for part in ({"ranking": "magnitude"}, {"recovery": "none"}, {"target": "teacher"}, {"allocation": "dual"}):
        assert not same(trained(**part), trained()), part


def test_the_second_backward_pass_is_asked_for_only_where_it_is_used() -> None:
    progress = Progress(0, 40, 0, 1e-3)
    assert build("csp", {}, context_for(toy(), 0.8)).observes_gradients(progress)
    assert build("csp", {"ranking": "magnitude", "allocation": "dual"}, context_for(toy(), 0.8)).observes_gradients(
        progress
    )
    assert not build("csp", {"ranking": "magnitude"}, context_for(toy(), 0.8)).observes_gradients(progress)
    assert not build("csp", {}, context_for(toy(), 0.0)).observes_gradients(progress)


def test_options_added_later_leave_ids_alone() -> None:
    assert not {"ranking", "target"} & set(CSPParams().model_dump(mode="json"))
    assert CSPParams(recovery="iht", patience=2, rho=0.1, shrink=0.01, measurement_ratio=0.3).patience == 2


def test_the_teachers_response_is_recovered() -> None:
    """With enough weights the student's layer answers as the dense layer does, whatever its own weights were."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 8, generator=generator) * (torch.rand(3, 8, generator=generator) > 0.5)
    heard = torch.randn(500, 8, generator=generator)
    inputs = heard + 0.3 * torch.randn(500, 8, generator=generator)  # the student's own, which pruning has changed
    response = (heard @ teacher.T).T @ inputs / 500
    best = torch.linalg.lstsq(inputs, heard @ teacher.T).solution.T
    weight = torch.nn.Parameter(best + 0.3 * torch.randn(3, 8, generator=generator))
    weight.data[0, 0] = 1e-4
    context = PruningContext(
        {"w": weight}, 1 / 24, 10, grams=lambda *_: {"w": inputs.T @ inputs / 500}, responses=lambda *_: {"w": response}
    )
    params = {"schedule": "one_shot", "target": "teacher", "damping": 0.0, "debias_steps": 40, "ranking": "magnitude"}
    build("csp", params, context).start()
    assert float(weight.detach()[0, 0]) == 0
    torch.testing.assert_close(weight[1:].detach(), best[1:], atol=1e-4, rtol=1e-4)


def test_the_teacher_must_be_there_and_be_measured() -> None:
    with pytest.raises(PruningError, match="target teacher needs the dense model"):
        build("csp", {"target": "teacher"}, context_for(toy(), 0.5, responses=None))
    with pytest.raises(ConfigError, match="target teacher needs ensemble activation"):
        build("csp", {"target": "teacher", "ensemble": "dct"}, context_for(toy(), 0.5))


def test_dual_counts_equalise_the_marginal_error() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(6, 10, generator=generator) for name in "ab"}
    fisher = {name: torch.rand(6, 10, generator=generator) for name in "ab"}
    left = {"a": torch.tensor(1.0), "b": torch.tensor(0.25)}
    counts = dual_counts(weights, fisher, left, 70, "unstructured")
    assert sum(counts.values()) == 70
    assert counts["b"] > counts["a"], "recovery makes up for three quarters of what b loses"
    costs = {name: (weights[name].square() * fisher[name] * left[name]).flatten().sort().values for name in "ab"}
    multiplier = max(float(costs[name][counts[name] - 1]) for name in "ab")
    assert all(float(costs[name][counts[name]]) >= multiplier for name in "ab")


def test_what_recovery_leaves_of_the_error_is_measured() -> None:
    moment = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    before, after = {"w": torch.tensor([[1.0, 2.0]])}, {"w": torch.tensor([[0.0, 2.6]])}
    left = {"w": torch.ones(())}
    update_left(left, before, after, {"w": Gram(moment)}, {"w": torch.ones(1, 1)})
    # Dropping the first weight costs 1; with the second moved by 0.6 it costs 1 - 0.6^2.
    assert float(left["w"]) == pytest.approx(0.64)
    update_left(left, after, after, {"w": Gram(moment)}, {"w": torch.ones(1, 1)})
    assert float(left["w"]) == pytest.approx(0.64), "nothing was dropped: nothing is learnt"


def test_the_penalised_form_has_its_own_defaults_and_search_space() -> None:
    penalised, plain = methods.get("csp_penalised").Params, CSPParams
    own = {"penalty", "patience", "tolerance", "rho", "shrink", "iterations", "recovery"}
    assert own <= set(penalised.search_space())
    assert not (own | {"ensemble", "measurement_ratio"}) & set(plain.search_space())
    assert penalised().patience > 0
    assert penalised().shrink > 0


def test_in_the_penalised_form_weights_shrink_and_leave_one_by_one() -> None:
    model = toy()
    method = build("csp_penalised", {"interval": 5, "tolerance": 1.0, "rho": 0.3}, context_for(model, 0.8, 80))
    loop = Loop(model, method, 80)
    before = sum(float(w.detach().abs().sum()) for w in matrices(model).values())
    loop.run(until=30)
    gone = sum(int((~m).sum()) for m in method.masks().values())
    assert 0 < gone < method.context.zeros
    assert sum(float(w.detach().abs().sum()) for w in matrices(model).values()) < before
    loop.run()
    assert sum(int((~m).sum()) for m in method.masks().values()) == method.context.zeros
