"""Layer-wise least squares after a mask update, as an option of every method that keeps a mask and trains."""

from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.pruning import PruningContext
from cspbench.pruning.refit import DAMPING, RefitParams, refit
from cspbench.pruning.registry import methods

REFITTED = [name for name in methods.names() if issubclass(methods.get(name).Params, RefitParams)]


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator)
    weight = torch.randn(4, 6, generator=generator)
    return weight, mix @ mix.T / 6, torch.rand(4, 6, generator=generator) > 0.4


def test_it_solves_the_normal_equations_of_the_kept_weights() -> None:
    weight, moment, mask = problem()
    values = refit(weight, moment, mask)
    damped = (moment + DAMPING * moment.diagonal().mean() * torch.eye(6)).double()
    for row, kept in enumerate(mask):
        expected = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ weight[row].double())
        torch.testing.assert_close(values[row, kept].double(), expected, atol=1e-4, rtol=1e-4)
    assert not values[~mask].any()


def test_magnitude_with_refit_keeps_the_same_weights_and_moves_them() -> None:
    weight, moment, _ = problem()
    plain, fitted = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(weight.clone())
    for parameter, params in ((plain, {}), (fitted, {"refit": True})):
        context = PruningContext({"w": parameter}, 0.5, 10, grams=lambda *_: {"w": moment})
        build("magnitude", {"schedule": "one_shot"} | params, context).start()
    assert torch.equal(plain != 0, fitted != 0)
    torch.testing.assert_close(fitted.detach(), refit(weight, moment, plain.detach() != 0))


def response_error(name: str, params: dict[str, object]) -> float:
    """Error of the layers' responses that the mask updates of a whole run leave, summed over them."""
    model = toy()
    context = context_for(model, 0.7, 40)
    method = build(name, params, context)
    moments = context.grams(1000)
    error, prune = 0.0, method._prune

    def watched(zeros: int) -> None:
        nonlocal error
        before = {key: w.detach() * method._masks[key] for key, w in matrices(model).items()}
        prune(zeros)
        for key, weight in matrices(model).items():
            gap = before[key] - weight.detach() * method._masks[key]
            error += float(((gap @ moments[key]) * gap).sum())

    method._prune = watched
    Loop(model, method, 40).run()
    return error


@pytest.mark.parametrize("name", [name for name in REFITTED if name not in ("set", "rigl")])
def test_it_lowers_the_error_of_the_responses(name: str) -> None:
    assert response_error(name, {"refit": True}) < 0.98 * response_error(name, {"refit": False})


@pytest.mark.parametrize("name", REFITTED)
def test_without_calibration_data_it_says_so_at_once(name: str) -> None:
    with pytest.raises(PruningError, match="there is no calibration data here"):
        build(name, {"refit": True}, context_for(toy(), 0.5, grams=None))


def test_all_that_keep_a_mask_and_train_offer_it_but_those_it_would_be_lost_on() -> None:
    # Rewinding and dual averaging overwrite the kept weights at once; csp has a recovery of its own.
    assert {"admm", "fisher_magnitude", "greg", "l1", "magnitude", "movement", "random", "rigl", "set", "snip"} <= set(
        REFITTED
    )
    assert not {"csp", "lottery", "sparsegpt", "wanda", "xrda", "control"} & set(REFITTED)


def test_a_trial_without_it_keeps_its_id() -> None:
    params = methods.get("magnitude").Params
    assert "refit" not in params().model_dump(mode="json")
    assert params(refit=True).model_dump(mode="json")["refit"] is True
    assert params.model_validate(params(refit=True).model_dump()) == params(refit=True)
