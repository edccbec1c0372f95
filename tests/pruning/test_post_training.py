from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy
from torch import Tensor

from cspbench.errors import ConfigError, PruningError
from cspbench.pruning import PruningContext
from cspbench.pruning.methods.sparsegpt import eliminate, inverse_factor
from cspbench.pruning.selection import SelectionParams

UNSTRUCTURED = SelectionParams()
TRAINING_FREE = pytest.mark.parametrize("name", ["wanda", "sparsegpt"])


def correlated(rows: int = 24, columns: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix, and the second moment of correlated inputs of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns // 4, generator=generator)
    x = torch.randn(1000, columns // 4, generator=generator) @ mix.T + torch.randn(1000, columns, generator=generator)
    x *= torch.linspace(0.2, 3.0, columns)[torch.randperm(columns, generator=generator)]
    moment = x.T @ x / 1000
    return torch.randn(rows, columns, generator=generator), (moment + moment.T) / 2


def pruned(name: str, weight: Tensor, moment: Tensor, sparsity: float, **params: object) -> Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    context = PruningContext({"w": parameter}, sparsity, 10, grams=lambda: {"w": moment})
    method = build(name, params, context)
    assert method.phases() == []
    method.start()
    method.finish()
    assert int((parameter == 0).sum()) == context.zeros
    return parameter.detach()


def response_error(weight: Tensor, other: Tensor, moment: Tensor) -> float:
    gap = weight - other
    return float(((gap @ moment) * gap).sum())


@TRAINING_FREE
def test_there_is_no_training_unless_asked_for(name: str) -> None:
    context = context_for(toy(), 0.5, 40)
    assert build(name, {}, context).phases() == []
    assert [p.steps for p in build(name, {"fine_tune": True}, context).phases()] == [40]


@TRAINING_FREE
def test_fine_tuning_keeps_the_mask(name: str) -> None:
    model = toy()
    method = build(name, {"fine_tune": True}, context_for(model, 0.5, 20))
    loop = Loop(model, method, 20)
    loop.run(until=0)
    before = {key: mask.clone() for key, mask in method.masks().items()}
    loop.run()
    assert all(torch.equal(before[key], mask) for key, mask in method.masks().items())


@TRAINING_FREE
def test_without_calibration_data_it_says_so_at_once(name: str) -> None:
    with pytest.raises(PruningError, match="there is no calibration data here"):
        build(name, {}, context_for(toy(), 0.5, grams=None))


@TRAINING_FREE
def test_moments_that_do_not_fit_are_named(name: str) -> None:
    method = build(name, {}, context_for(toy(), 0.5, grams=lambda: {"lstm.weight_ih_l0": torch.eye(3)}))
    with pytest.raises(PruningError, match=r"'lstm.weight_ih_l0' should have shape \(5, 5\), it is of shape \(3, 3\)"):
        method.start()


@TRAINING_FREE
def test_each_matrix_is_measured_after_those_before_it_were_pruned(name: str) -> None:
    for sequential in (True, False):
        model = toy()
        context = context_for(model, 0.5)
        measured: list[int] = []
        grams = context.grams

        def counting(grams=grams, model=model, measured=measured) -> dict[str, Tensor]:
            measured.append(sum(bool((w == 0).any()) for w in matrices(model).values()))
            return grams()

        context.grams = counting
        build(name, {"sequential": sequential}, context).start()
        assert measured == (list(range(len(matrices(model)))) if sequential else [0])


@TRAINING_FREE
def test_by_default_every_matrix_gets_the_same_sparsity(name: str) -> None:
    model = toy()
    method = build(name, {}, context_for(model, 0.5))
    method.start()
    for mask in method.masks().values():
        assert abs(int(mask.sum()) - mask.numel() / 2) <= 1


def test_wanda_literally() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.5], [4.0, 0.1, -0.2, 5.0]])
    moment = torch.diag(torch.tensor([16.0, 1.0, 0.25, 4.0]))  # norms 4, 1, 0.5, 2
    # products: 4, 2, 1.5, 1 and 16, 0.1, 0.1, 10
    assert pruned("wanda", weight, moment, 0.5).tolist() == [[1.0, -2.0, 0.0, 0.0], [4.0, 0.0, 0.0, 5.0]]
    matrix = pruned("wanda", weight, moment, 0.75, comparison="matrix")
    assert matrix.tolist() == [[0.0] * 4, [4.0, 0.0, 0.0, 5.0]]


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_wanda_keeps_the_same_number_in_every_row(sparsity: float) -> None:
    kept = (pruned("wanda", *correlated(), sparsity) != 0).sum(1)
    assert kept.max() - kept.min() <= 1


def test_removing_one_weight_is_the_optimal_brain_surgeon() -> None:
    weight, moment = correlated(rows=1, columns=12)
    inverse = torch.linalg.inv(moment.double() + 0.01 * moment.diagonal().double().mean() * torch.eye(12).double())
    factor = inverse_factor(moment, 0.01)
    weight[0, 0] = 1e-4  # so that the first goes: all other weights may then make up for it
    mask, values = eliminate(weight, factor, 1, UNSTRUCTURED)
    assert mask.tolist() == [[False] + [True] * 11]
    expected = weight[0].double() - weight[0, 0].double() / inverse[0, 0] * inverse[:, 0]
    torch.testing.assert_close(values[0].double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("removed", [3, 7])
def test_removing_a_later_weight_moves_those_after_it(removed: int) -> None:
    """The columns before it are decided: the surgeon works on the inputs from it on."""
    weight, moment = correlated(rows=1, columns=12)
    damped = moment.double() + 0.01 * moment.diagonal().double().mean() * torch.eye(12).double()
    inverse = torch.linalg.inv(damped[removed:, removed:])
    weight[0, removed] = 1e-4
    mask, values = eliminate(weight, inverse_factor(moment, 0.01), 1, UNSTRUCTURED)
    assert not mask[0, removed]
    expected = weight[0].double()
    expected[removed:] -= weight[0, removed].double() / inverse[0, 0] * inverse[:, 0]
    torch.testing.assert_close(values[0].double(), expected, atol=1e-6, rtol=1e-5)


def test_the_factor_holds_the_inverses_of_all_trailing_moments() -> None:
    _, moment = correlated(columns=10)
    factor = inverse_factor(moment, 0.05)
    damped = moment.double() + 0.05 * moment.diagonal().double().mean() * torch.eye(10).double()
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(damped))
    for q in range(10):
        inverse = torch.linalg.inv(damped[q:, q:])
        torch.testing.assert_close(factor[q, q:], inverse[0] / inverse[0, 0].sqrt())


@pytest.mark.parametrize("zeros", [5, 768, 1400])
def test_blocks_only_change_which_weights_go_not_how_the_others_move(zeros: int) -> None:
    """Given the mask, the result is that of elimination with a block for each column."""
    weight, moment = correlated()
    factor = inverse_factor(moment, 0.01)
    mask, values = eliminate(weight, factor, zeros, UNSTRUCTURED, block=7)
    w = weight.double().clone()
    for q in range(w.shape[1]):
        w -= torch.outer(w[:, q] * ~mask[:, q] / factor[q, q], factor[q])
    torch.testing.assert_close(values.double(), w * mask, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_correcting_what_is_kept_preserves_the_response_best(sparsity: float, seed: int) -> None:
    weight, moment = correlated(seed=seed)
    magnitude = torch.nn.Parameter(weight.clone())
    build("magnitude", {"schedule": "one_shot"}, PruningContext({"w": magnitude}, sparsity, 10)).start()
    by_magnitude = response_error(magnitude.detach(), weight, moment)
    by_wanda = response_error(pruned("wanda", weight, moment, sparsity), weight, moment)
    by_sparsegpt = response_error(pruned("sparsegpt", weight, moment, sparsity, block=8), weight, moment)
    assert by_sparsegpt < 0.8 * by_wanda
    assert by_wanda < 0.8 * by_magnitude


@TRAINING_FREE
def test_two_of_four(name: str) -> None:
    weight, moment = correlated()
    result = pruned(name, weight, moment, 0.5, pattern="2:4")
    assert ((result != 0).unflatten(1, (-1, 4)).sum(-1) == 2).all()


@pytest.mark.parametrize("sparsity", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("params", [{}, {"block": 8}, {"allocation": "global"}, {"pattern": "1x4"}])
def test_inputs_that_are_always_zero_go_first(sparsity: float, params: dict[str, object]) -> None:
    weight, moment = correlated()
    dead = [*range(3, 11), 40, *range(50, 57)]  # 16 of 64
    if "pattern" in params:
        dead = [*range(4, 12), *range(40, 48)]
    moment[dead], moment[:, dead] = 0, 0
    result = pruned("sparsegpt", weight, moment, sparsity, **params)
    gone = result == 0
    live = [column for column in range(64) if column not in dead]
    if sparsity <= 0.25:
        assert not gone[:, live].any()
    if sparsity >= 0.25:
        assert gone[:, dead].all()


@TRAINING_FREE
def test_along_a_ramp_it_prunes_inside_training(name: str) -> None:
    model = toy()
    method = build(name, {"fine_tune": True, "ramp": 0.5, "interval": 4}, context_for(model, 0.8, 40))
    loop = Loop(model, method, 40)
    gone = []
    for step in range(41):
        loop.run(until=step)
        gone.append(sum(int((~mask).sum()) for mask in method.masks().values()))
        assert all(torch.equal(w != 0, method.masks()[key]) for key, w in matrices(model).items())
    assert gone == sorted(gone)
    assert gone[0] == 0
    assert len(set(gone)) > 8
    assert gone[20] == gone[40] == method.context.zeros


def test_a_ramp_without_training_is_refused() -> None:
    with pytest.raises(ConfigError, match="ramp prunes during training: set fine_tune: true"):
        build("sparsegpt", {"ramp": 0.5}, context_for(toy(), 0.5))


def test_inputs_that_are_never_active_cost_nothing() -> None:
    weight, moment = correlated()
    moment[:8], moment[:, :8] = 0, 0
    result = pruned("sparsegpt", weight, moment, 0.5, block=64)
    assert (result[:, :8] == 0).float().mean() > 0.9
    assert result.isfinite().all()
    assert pruned("sparsegpt", weight, torch.zeros(64, 64), 0.5).isfinite().all()
