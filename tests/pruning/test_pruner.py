"""`cspbench.Pruner` on a model that is not ours: convolution, stacked LSTM and attention, in a plain loop."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import cspbench
from cspbench.errors import ConfigError, PruningError
from cspbench.pruning.at_once import prune
from cspbench.pruning.pruner import Pruner
from cspbench.pruning.registry import pruning_names

STEPS = 10
every_method = pytest.mark.parametrize("name", pruning_names())


class Tagger(nn.Module):
    """Labels each frame of (N, T, 4) with one of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lstm(self.conv(x.transpose(1, 2)).transpose(1, 2))[0]
        return self.head(self.norm(h + self.attention(h, h, h)[0]))


def tagger(seed: int = 0) -> Tagger:
    torch.manual_seed(seed)
    return Tagger()


def batch(step: int) -> Tensor:
    return torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(step))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x[..., :3].cumsum(1)).square().mean()


def adam(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=5e-3, **options)


def start(model: nn.Module, optimizer: torch.optim.Optimizer, name: str = "magnitude", **options: Any) -> Pruner:
    """A pruner with all that any method may ask for."""

    def early(fraction: float) -> dict[str, Tensor]:
        return {key: x * (1 + fraction) for key, x in tagger(seed=1).state_dict().items()}

    given: dict[str, Any] = {"sparsity": 0.8, "steps": STEPS, "earlier": early}
    given["calibration"] = lambda: (model(batch(100 + i)) for i in range(3))
    return Pruner(model, optimizer, name, **(given | options))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner, until: int | None = None) -> None:
    for step in range(pruner.step, pruner.total if until is None else until):
        optimizer.zero_grad()
        loss_of(model, batch(step)).backward()
        optimizer.step()


def trained(name: str = "magnitude", **options: Any) -> tuple[Tagger, Pruner]:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer, name, **options)
    train(model, optimizer, pruner)
    pruner.finish()
    return model, pruner


def assert_same(left: nn.Module, right: nn.Module) -> None:
    for (key, a), b in zip(left.state_dict().items(), right.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def assert_exact(model: nn.Module, pruner: Pruner, sparsity: float = 0.8) -> None:
    """Assert exactly as many zeros as asked for, all of them where the masks say."""
    parameters, masks = dict(model.named_parameters()), pruner.masks()
    total = sum(parameters[key].numel() for key in masks)
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(sparsity * total)
    for key, mask in masks.items():
        assert torch.equal(parameters[key] != 0, mask), key


@every_method
def test_every_method_leaves_exact_zeros(name: str) -> None:
    model, pruner = trained(name)
    assert_exact(model, pruner)
    assert pruner.masks().keys() == {key for key, p in model.named_parameters() if p.dim() > 1}
    report = pruner.report()
    assert report.sparsity == pytest.approx(0.8, abs=1e-3)
    assert report.layers["conv.weight"] == pytest.approx(float((model.conv.weight == 0).float().mean()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["csp", "movement", "obs", "xrda"])
def test_weights_may_be_of_other_types(name: str, dtype: torch.dtype) -> None:
    model = tagger().to(dtype)
    optimizer = adam(model)
    pruner = start(model, optimizer, name, calibration=lambda: [model(batch(100).to(dtype))])
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, batch(step).to(dtype)).backward()
        optimizer.step()
    pruner.finish()
    assert_exact(model, pruner)


@every_method
def test_a_resumed_training_is_bit_identical(name: str, tmp_path: Path) -> None:
    """From a file that the restricted loader reads."""
    whole = tagger()
    optimizer = adam(whole)
    pruner = start(whole, optimizer, name)
    half = pruner.total // 2
    train(whole, optimizer, pruner, until=half)
    state = {"model": whole.state_dict(), "optimizer": optimizer.state_dict(), "pruner": pruner.state_dict()}
    torch.save(state, tmp_path / "checkpoint.pt")
    train(whole, optimizer, pruner)
    pruner.finish()

    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model = tagger(seed=5)
    model.load_state_dict(saved["model"])  # before the pruner is made, which prunes what is not pruned yet
    again = adam(model)
    resumed = start(model, again, name)
    resumed.load_state_dict(saved["pruner"])
    again.load_state_dict(saved["optimizer"])
    assert_same(model, _with(saved["model"]))
    train(model, again, resumed)
    resumed.finish()
    assert_same(model, whole)
    for key, mask in pruner.masks().items():
        assert torch.equal(resumed.masks()[key], mask)


def _with(state: dict[str, Tensor]) -> Tagger:
    model = tagger()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("model_first", [False, True])
def test_the_model_may_be_loaded_after_the_pruner_was_made(model_first: bool) -> None:
    whole = tagger()
    optimizer = adam(whole)
    pruner = start(whole, optimizer, "rigl")  # prunes as it starts
    train(whole, optimizer, pruner, until=4)
    state = copy.deepcopy((whole.state_dict(), pruner.state_dict()))
    model = tagger(seed=5)
    resumed = start(model, adam(model), "rigl")
    for part in (0, 1) if model_first else (1, 0):
        (model, resumed)[part].load_state_dict(state[part])
    assert_same(model, whole)
    assert resumed.step == 4


def test_a_state_of_another_training_is_refused() -> None:
    model = tagger()
    pruner = start(model, adam(model))
    own = pruner.state_dict()
    with pytest.raises(PruningError, match="this state is of set over 10 steps, not of magnitude over 10"):
        pruner.load_state_dict(own | {"method": "set"})
    with pytest.raises(PruningError, match="this state is of magnitude over 20 steps, not of magnitude over 10"):
        pruner.load_state_dict(own | {"total": 20})
    with pytest.raises(PruningError, match="it belongs to another model or method"):
        pruner.load_state_dict(own | {"state": {}})


@pytest.mark.parametrize("way", ["accumulated", "closure", "keyword", "scaled", "fused"])
@pytest.mark.parametrize("name", ["xrda", "obs"])
def test_loops_of_any_kind_give_the_weights_of_the_plain_one(name: str, way: str) -> None:
    """Scales are powers of two, and halves of a batch are accumulated where they are accumulated in the plain loop."""
    weights = []
    for kind in ("plain", way):
        model = tagger()
        optimizer = adam(model, fused=True if way == "fused" else None)
        pruner = start(model, optimizer, name)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=kind in ("scaled", "fused"))
        for step in range(STEPS):
            optimizer.zero_grad()

            def closure(step: int = step, model: nn.Module = model, scaler: Any = scaler) -> Tensor:
                for half in batch(step).chunk(2):
                    loss = loss_of(model, half)
                    scaler.scale(loss).backward()
                return loss

            if kind == "closure":
                optimizer.step(closure)
            elif kind == "keyword":
                optimizer.step(closure=closure)
            else:
                closure()
                scaler.step(optimizer)
                scaler.update()
        assert pruner.finish().step == STEPS
        weights.append(model)
    assert_same(*weights)


@pytest.mark.parametrize("fused", [None, True])
def test_a_step_that_a_scaler_skips_does_not_count(fused: bool | None) -> None:
    model = tagger()
    optimizer = adam(model, fused=fused)
    pruner = start(model, optimizer, "snip")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = copy.deepcopy(model)
    (scaler.scale(loss_of(model, batch(0))) * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert pruner.step == 0
    assert_same(model, before)
    optimizer.zero_grad()
    scaler.scale(loss_of(model, batch(0))).backward()
    scaler.step(optimizer)
    assert pruner.step == 1


def test_after_a_skipped_step_the_next_gradients_are_observed() -> None:
    seen = []
    for overflow in (False, True):
        model = tagger()
        optimizer = adam(model)
        pruner = start(model, optimizer, "fisher_magnitude")
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in [torch.inf, 1.0] if overflow else [1.0]:
            optimizer.zero_grad()
            (scaler.scale(loss_of(model, batch(0))) * factor).backward()
            scaler.unscale_(optimizer)
            pruner.after_backward()
            scaler.step(optimizer)
            scaler.update()
        assert pruner.step == 1
        seen.append(pruner.method.state_dict())
    assert any(x.any() for key, x in seen[0].items() if key.startswith("rows"))
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])


def test_after_backward_masks_gradients_before_the_loop_clips_them() -> None:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer, "set", sparsity=0.95)
    loss_of(model, batch(0)).backward()
    pruner.after_backward()
    parameters = dict(model.named_parameters())
    for key, mask in pruner.masks().items():
        assert not parameters[key].grad[~mask].any(), key
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    assert pruner.step == 1


def test_gradients_of_the_own_loss_can_be_shown_alone() -> None:
    seen = []
    for weight in (0.0, 5.0):
        model = tagger()
        pruner = start(model, adam(model), "fisher_magnitude")
        assert pruner.observes_gradients
        loss = loss_of(model, batch(0))
        loss.backward(retain_graph=True)
        pruner.observe_gradients()
        (weight * model.head.weight.square().sum()).backward()
        pruner.after_backward()
        seen.append(pruner.method.state_dict())
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])


def test_zeros_stay_where_training_goes_on_until_the_end() -> None:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer)
    train(model, optimizer, pruner, until=STEPS + 5)
    assert_exact(model, pruner)
    assert pruner.step == STEPS
    state = pruner.state_dict()
    again = start(other := _with(model.state_dict()), second := adam(other))
    again.load_state_dict(state)
    train(other, second, again, until=STEPS + 1)
    assert_exact(other, again)
    pruner.finish()
    assert not optimizer._optimizer_step_pre_hooks


def test_a_training_that_ends_early_is_pruned_with_a_warning() -> None:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer)
    train(model, optimizer, pruner, until=2)
    with pytest.warns(UserWarning, match="pruning ends at step 2 of 10"):
        pruner.finish()
    assert_exact(model, pruner)


def test_phases_begin_with_a_fresh_optimiser() -> None:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer, "lottery", rounds=2, round_steps=0.3)
    assert pruner.phases == [3, 3]
    train(model, optimizer, pruner, until=3)
    assert not optimizer.state
    assert (model.conv.weight == 0).any()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_earlier_weights_are_read_from_a_folder(kind: str, tmp_path: Path) -> None:
    early = {f"module.{key}": value for key, value in tagger(seed=1).state_dict().items()}
    torch.save(early, tmp_path / "0.5.pt") if kind == "pt" else save_file(early, tmp_path / "0.5.safetensors")
    model = tagger()
    start(model, adam(model), "lottery", earlier=tmp_path)
    assert torch.equal(model.lstm.bias_ih_l0, early["module.lstm.bias_ih_l0"])
    with pytest.raises(PruningError, match=r"has no weights at 0\.25 of the training: save a state dict there"):
        start(model, adam(model), "lottery", earlier=tmp_path, rewind=0.25)
    torch.save({"other": torch.zeros(1)}, tmp_path / "0.1.pt")
    with pytest.raises(PruningError, match="it has no 'other' of that shape"):
        start(model, adam(model), "lottery", earlier=tmp_path, rewind=0.1)


def test_a_compiled_model_is_pruned_and_measured_like_the_model_itself() -> None:
    torch._dynamo.reset()
    models = [tagger(), tagger()]
    runs: list[Any] = [models[0], torch.compile(models[1], backend="eager")]
    for run in runs:
        optimizer = adam(run)
        loss_of(run, batch(0))  # compiled before there are hooks
        pruner = start(run, optimizer, "csp")
        train(run, optimizer, pruner)
        pruner.finish()
    assert_same(*models)


def test_tied_weights_count_once() -> None:
    model = tagger()
    model.lstm.weight_hh_l1 = model.lstm.weight_hh_l0
    optimizer = adam(model)
    pruner = start(model, optimizer, "csp")
    train(model, optimizer, pruner)
    pruner.finish()
    assert_exact(model, pruner)
    assert "lstm.weight_hh_l1" not in pruner.masks()


def test_embeddings_and_what_is_tied_to_them_are_left_out() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5))
    model[2].weight = model[0].weight
    assert list(start(model, adam(model)).masks()) == ["1.weight"]


def test_patterns_choose_and_frozen_layers_are_left_out() -> None:
    model = tagger()
    assert list(start(model, adam(model), prunable=["head.*", "*.weight_hh_l0"]).masks()) == [
        "lstm.weight_hh_l0", "head.weight",
    ]  # fmt: skip
    model.head.requires_grad_(False)
    assert "head.weight" not in start(model, adam(model)).masks()
    with pytest.raises(PruningError, match=r"'haed\.\*' matches no weight matrix of this model \(there are: conv"):
        start(model, adam(model), prunable=["haed.*"])


def test_parametrised_layers_are_left_out_and_refused_where_they_are_asked_for() -> None:
    new, old, masked = tagger(), tagger(), tagger()
    parametrizations.weight_norm(new.head)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(old.head)
    nn.utils.prune.l1_unstructured(masked.head, "weight", 0.5)
    for model in (new, old, masked):
        assert not any(name.startswith("head") for name in start(model, adam(model)).masks())
        with pytest.raises(PruningError, match=r"'head\.weight' is computed from other parameters"):
            start(model, adam(model), prunable=["head.*"])


def test_what_cannot_work_is_refused_in_a_sentence() -> None:
    model = tagger()
    with pytest.raises(PruningError, match="LBFGS cannot drive pruning"):
        start(model, torch.optim.LBFGS(model.parameters()))
    with pytest.raises(PruningError, match=r"the optimiser does not train conv\.weight, lstm"):
        start(model, adam(model.head))
    with pytest.raises(PruningError, match="there is no calibration data here"):
        start(model, adam(model), "csp", calibration=None)
    with pytest.raises(PruningError, match="this run has none"):
        start(model, adam(model), "lottery", earlier=None)
    with pytest.raises(PruningError, match="say which sparsity"):
        Pruner(model, adam(model), "magnitude")
    with pytest.raises(ConfigError, match="unknown pruning method 'magnitud'; did you mean 'magnitude'"):
        start(model, adam(model), "magnitud")
    with pytest.raises(ConfigError, match="intervall"):
        start(model, adam(model), intervall=3)
    split = type("FullyShardedDataParallel", (nn.Sequential,), {})(model)
    with pytest.raises(PruningError, match="weights are split over processes"):
        start(split, adam(model))
    images = nn.Sequential(nn.Conv2d(2, 3, 3)).to(memory_format=torch.channels_last)
    with pytest.raises(PruningError, match=r"does not lie in memory row by row"):
        start(images, adam(images))


def test_weights_that_were_replaced_are_noticed() -> None:
    model = tagger()
    optimizer = adam(model)
    pruner = start(model, optimizer)
    train(model, optimizer, pruner)
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    with pytest.raises(PruningError, match=r"'head\.weight' was replaced or moved"):
        pruner.finish()


def test_an_optimiser_that_evaluates_its_closure_again_is_refused() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                closure()
                return closure()

    model = tagger()
    optimizer = Twice(model.parameters(), lr=0.1)
    start(model, optimizer)
    with pytest.raises(PruningError, match="several times a step"):
        optimizer.step(lambda: loss_of(model, batch(0)).backward())


def test_a_bound_method_is_driven_as_it_is() -> None:
    model = tagger()
    weights = {"head.weight": model.head.weight}
    context = cspbench.pruning.PruningContext(weights=weights, sparsity=0.5, steps=STEPS)
    method = cspbench.create("magnitude", {}, context)
    optimizer = adam(model)
    pruner = Pruner(model, optimizer, method)
    train(model, optimizer, pruner)
    pruner.finish()
    assert int((model.head.weight == 0).sum()) == 15
    with pytest.raises(PruningError, match="is bound already"):
        Pruner(model, optimizer, method, sparsity=0.5)
    with pytest.raises(PruningError, match=r"bound to 'head\.weight', which is not a weight matrix of this model"):
        Pruner(other := tagger(), adam(other), method)


AT_ONCE: list[tuple[str, dict[str, Any]]] = [
    ("sparsegpt", {}),
    ("wanda", {}),
    ("csp", {"fine_tune": False}),
    ("magnitude", {}),
    ("random", {"allocation": "uniform"}),
]


@pytest.mark.parametrize(("name", "options"), AT_ONCE, ids=[name for name, _ in AT_ONCE])
def test_a_trained_model_is_pruned_at_once(name: str, options: dict[str, Any]) -> None:
    model = tagger()
    x = batch(7)
    dense = model(x)
    report = prune(model, name, 0.5, calibration=lambda: (model(batch(i)) for i in range(4)), **options)
    zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1)
    assert report.weights == sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert zeros == round(0.5 * report.weights)
    assert (model(x) - dense).norm() < (0.6 if name != "random" else 2) * dense.norm()
    assert f"{name}: 50.0" in str(report)
    assert f"{report.layers['head.weight']:.2%}" in str(report)


def test_of_methods_that_train_and_where_data_are_missing_the_model_stays_as_it_was() -> None:
    def broken() -> Iterator[object]:
        yield model.conv(batch(0).transpose(1, 2))

    model = tagger()
    for name in ("acdc", "admm", "csp", "fisher_magnitude", "greg", "l1", "movement", "obs", "snip", "xrda"):
        with pytest.raises(PruningError, match="prunes while a model trains"):
            prune(model, name, 0.5, calibration=lambda: (model(batch(0)) for _ in range(1)))
    with pytest.raises(PruningError, match="showed no input"):
        prune(model, "sparsegpt", 0.5, calibration=broken)
    assert_same(model, tagger())


PROCESS = """
import sys, torch
from torch import distributed, nn
import cspbench

rank, file = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
run = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(run.parameters(), lr=1e-2)

def data(i):
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(100 * rank + i))

pruner = cspbench.Pruner(run, optimizer, "csp", 0.75, 6, calibration=lambda: (run(data(50 + i)) for i in range(2)))
for step in range(6):
    optimizer.zero_grad()
    run(data(step)).square().mean().backward()
    optimizer.step()
assert pruner.finish().sparsity == 0.75
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
both = [torch.zeros_like(weights) for _ in range(2)]
distributed.all_gather(both, weights)
assert torch.equal(*both)
distributed.destroy_process_group()
"""


def test_processes_with_data_of_their_own_prune_alike(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS]
    running = [subprocess.Popen([*command, str(rank), str(tmp_path / "rendezvous")]) for rank in range(2)]
    assert [process.wait(timeout=240) for process in running] == [0, 0]
