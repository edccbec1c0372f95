"""The factored Fisher information, and the rankings made of it."""

from __future__ import annotations

import torch
from support.toy_training import Loop, build, context_for, toy

from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.fisher import fisher_diagonal, importance, update_rows


def test_of_independent_inputs_and_output_gradients_it_is_the_fisher_diagonal() -> None:
    torch.manual_seed(0)
    scale_in, scale_out = torch.tensor([0.1, 1.0, 3.0]), torch.tensor([0.5, 2.0])
    x, g = torch.randn(200_000, 3) * scale_in, torch.randn(200_000, 2) * scale_out
    fisher = (g.square().T @ x.square()) / len(x)
    powers, rows = {"w": x.square().mean(0)}, {"w": fisher.sum(1, keepdim=True)}
    torch.testing.assert_close(fisher_diagonal(powers, rows)["w"], fisher, rtol=0.04, atol=0)
    found = importance(powers, rows, 1.0)
    torch.testing.assert_close(found["w"], fisher.sqrt(), rtol=0.02, atol=0)
    torch.testing.assert_close(importance(powers, rows, 0.5)["w"], found["w"].sqrt())
    assert importance(powers, rows, 0.0) == {}


def test_inputs_that_were_zero_do_not_spoil_the_ranks_of_others() -> None:
    found = importance(
        {"zero": torch.zeros(3), "other": torch.ones(3)}, dict.fromkeys(("zero", "other"), torch.ones(2, 1)), 0.5
    )
    assert not found["zero"].any()
    assert bool((found["other"] > 0).all())


def test_an_overflowing_gradient_leaves_no_trace() -> None:
    rows = {"w": torch.ones(2, 1)}
    update_rows(rows, {"w": torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0]])})
    torch.testing.assert_close(rows["w"], torch.full((2, 1), 0.8))


def test_fisher_magnitude_ranks_by_magnitude_times_the_root_of_the_fisher_information() -> None:
    """Two inputs of unequal power, two rows of unequal gradient: literal products decide."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    moment = torch.diag(torch.tensor([4.0, 1.0]))
    context = PruningContext({"w": weight}, 0.5, 10, grams=lambda *_: {"w": moment})
    method = build("fisher_magnitude", {"sensitivity": 1.0, "schedule": "one_shot", "begin": 0.1}, context)
    method.start()
    method.observe_gradients(Progress(0, 10, 0, 1e-3), {"w": torch.tensor([[3.0, 0.0], [1.0, 0.0]])})
    method.after_step(Progress(0, 10, 0, 1e-3))
    # |w| sqrt(F), F ~ {9, 1} x {4, 1} (+ 2 % damping): 6 and 3 in the first row, 2 and 1 in the second
    assert weight.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_with_refit_it_is_csp_and_magnitude_with_refit_is_csp_without_the_ranking() -> None:
    ramp = {"interval": 5, "end": 0.6}
    pairs = [
        (("fisher_magnitude", {"refit": True}), ("csp", {})),
        (("fisher_magnitude", {}), ("csp", {"debias_steps": 0})),
        (("magnitude", {"refit": True}), ("csp", {"sensitivity": 0})),
    ]
    for pair in pairs:
        models = []
        for name, params in pair:
            models.append(toy())
            Loop(models[-1], build(name, params | ramp, context_for(models[-1], 0.8, 40)), 40).run()
        for left, right in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(left, right), pair
