from __future__ import annotations

import pytest
import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.errors import PruningError
from cspbench.pruning import Progress, PruningContext
from cspbench.pruning.methods.obs import blocks_of, from_blocks, surgery


def positive(size: int, seed: int = 0) -> torch.Tensor:
    mix = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mix @ mix.T / size


def test_removing_one_weight_is_the_optimal_brain_surgeon() -> None:
    fisher = positive(5)
    inverse = torch.linalg.inv(fisher)
    w = torch.randn(1, 5, dtype=torch.float64)
    kept = torch.tensor([[True, True, False, True, True]])
    expected = w[0] - w[0, 2] / inverse[2, 2] * inverse[:, 2]
    found = surgery(w, inverse[None], kept)
    torch.testing.assert_close(found[0, kept[0]], expected[kept[0]])
    assert float(found[0, 2]) == 0


def test_removing_several_finds_the_constrained_minimum() -> None:
    """The others solve ``F_KK (v - w)_K = F_KD w_D``."""
    fisher, w = torch.stack([positive(6, 1), positive(6, 2)]), torch.randn(2, 6, dtype=torch.float64)
    kept = torch.tensor([[1, 0, 0, 1, 1, 0], [1, 1, 1, 1, 0, 1]]).bool()
    found = surgery(w, torch.linalg.inv(fisher), kept)
    for f, before, after, k in zip(fisher, w, found, kept, strict=True):
        expected = before[k] + torch.linalg.solve(f[k][:, k], f[k][:, ~k] @ before[~k])
        torch.testing.assert_close(after[k], expected)
        assert not after[~k].any()


def test_what_is_gone_already_neither_returns_nor_moves_others() -> None:
    inverse, w = torch.linalg.inv(positive(4))[None], torch.tensor([[1.0, 0.0, 2.0, 3.0]], dtype=torch.float64)
    kept = torch.tensor([[True, False, True, True]])
    torch.testing.assert_close(surgery(w, inverse, kept), w)


def test_weights_that_are_gone_make_up_for_nothing() -> None:
    """Removing weights one by one, with exact curvature, is the surgeon's own sequence on ever smaller matrices."""
    fisher, w = positive(8, 3), torch.randn(8, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.nn.Parameter(w.float()[None].clone())
    params = {"block": 8, "damping": 1e-9, "schedule": "linear", "end": 0.5, "interval": 1}
    method = build("obs", params, PruningContext({"w": weight}, 0.5, 8))
    method._fisher["w"][0] = fisher.float()
    method.start()
    for step in range(4):
        method.after_step(Progress(step, 8, 0, 0.1))
    left = list(range(8))
    for _ in range(4):
        inverse = torch.linalg.inv(fisher[left][:, left])
        q = int((w[left].square() / inverse.diagonal()).argmin())
        w[left] -= w[left][q] / inverse[q, q] * inverse[:, q]
        w[left[q]] = 0
        del left[q]
    torch.testing.assert_close(weight.detach()[0].double(), w, atol=1e-4, rtol=1e-4)


def test_blocks_are_padded_and_cut_off_again() -> None:
    matrix = torch.arange(15.0).view(3, 5)
    assert blocks_of(matrix, 4).shape == (4, 4)
    assert torch.equal(from_blocks(blocks_of(matrix, 4), matrix.shape), matrix)


def test_the_saliency_is_the_square_over_the_inverse_fisher_and_not_the_magnitude() -> None:
    """Two weights whose gradients always agree: either can make up for the other, so one of them goes."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, 1.1, 0.6, 0.9]]))
    context = PruningContext({"w": weight}, 0.25, 100)
    params = {"block": 4, "damping": 0.01, "memory": 0.1, "schedule": "one_shot", "begin": 0.3}
    method = build("obs", params, context)
    method.start()
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        a, b, c = torch.randn(3, generator=generator).tolist()
        if method.observes_gradients(Progress(step, 100, 0, 0.1)):
            method.observe_gradients(Progress(step, 100, 0, 0.1), {"w": torch.tensor([[a, a, 2 * b, 2 * c]])})
        method.after_step(Progress(step, 100, 0, 0.1))
    assert method.masks()["w"].tolist() == [[False, True, True, True]]
    assert float(weight.detach()[0, 1]) == pytest.approx(2.1, abs=0.1), "the second took over what the first did"


def test_before_any_gradient_it_is_magnitude_pruning() -> None:
    models = [toy(), toy()]
    for model, name in zip(models, ("obs", "magnitude"), strict=True):
        build(name, {"schedule": "one_shot"}, context_for(model, 0.6)).start()
    for name, weight in matrices(models[0]).items():
        torch.testing.assert_close(weight, matrices(models[1])[name])


def test_an_overflowing_gradient_leaves_no_trace() -> None:
    model = toy()
    method = build("obs", {}, context_for(model, 0.5))
    method.observe_gradients(
        Progress(0, 40, 0, 0.1), {n: torch.full_like(w, torch.inf) for n, w in matrices(model).items()}
    )
    assert not any(bool(x.any()) for key, x in method.state_dict().items() if key.startswith("fisher"))


def test_on_a_quadratic_it_hurts_the_loss_less_than_magnitude() -> None:
    """Gradients show the curvature exactly: the model the method is made for."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(2000, 16, generator=generator) @ (
        torch.eye(16) + 0.3 * torch.randn(16, 16, generator=generator)
    )
    truth = torch.randn(1, 16, generator=generator)
    noise = torch.randn(2000, 1, generator=generator)
    losses = {}
    for name in ("obs", "magnitude"):
        weight = torch.nn.Parameter(truth.clone())
        params = {"block": 16, "damping": 1e-3, "memory": 0.005} if name == "obs" else {}
        params |= {"schedule": "linear", "begin": 0.25, "end": 0.5, "interval": 20}
        method = build(name, params, PruningContext({"w": weight}, 0.5, 800))
        method.start()
        for step in range(400):
            rows = slice(5 * step, 5 * step + 5)
            if method.observes_gradients(Progress(step, 800, 0, 0.0)):
                gradient = noise[rows].T @ inputs[rows] / 5
                method.observe_gradients(Progress(step, 800, 0, 0.0), {"w": gradient})
            method.after_step(Progress(step, 800, 0, 0.0))
        losses[name] = float(((weight.detach() - truth) @ inputs.T).square().mean())
    assert losses["obs"] < 0.5 * losses["magnitude"]


def test_weights_that_are_not_finite_are_reported() -> None:
    model = toy()
    context = context_for(model, 0.5)
    method = build("obs", {"schedule": "one_shot"}, context)
    next(iter(method._fisher.values())).fill_(torch.nan)
    with pytest.raises(PruningError, match="raise damping"):
        method.start()


def test_nothing_is_kept_where_nothing_is_pruned() -> None:
    model = toy()
    method = build("obs", {}, context_for(model, 0.0))
    assert not method.observes_gradients(Progress(0, 40, 0, 0.1))
    Loop(model, method, 5).run()
    assert not [key for key in method.state_dict() if key.startswith("fisher")]
