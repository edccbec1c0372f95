"""The arithmetic of the overhead benchmark under a clock of our own, and that it runs with all that it measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.bench import overhead
from cspbench.bench.torch_prune import TorchPrune
from cspbench.cli import app
from cspbench.errors import ConfigError
from cspbench.hyper import Hyperparameters
from cspbench.pruning import Phase, Progress, PruningContext, PruningMethod
from cspbench.pruning.registry import methods
from cspbench.training.loop import TrainingRun


class Watch:
    """A clock that goes only when told."""

    time = 0.0


class Clockwork(PruningMethod):
    """Takes 3 s to start, 0.25 s a step, and 2 s more after every tenth; finishes in 1 s."""

    summary = source = "-"

    def start(self) -> None:
        Watch.time += 3

    def after_backward(self, progress: Progress) -> None:
        Watch.time += 0.25

    def after_step(self, progress: Progress) -> None:
        Watch.time += 2 if progress.step % 10 == 9 else 0

    def finish(self) -> None:
        Watch.time += 1

    def masks(self) -> dict[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class TrainingFree(Clockwork):
    """The same without training, unless asked for."""

    class Params(Hyperparameters):
        fine_tune: bool = False

    params: Params

    def phases(self) -> list[Phase]:
        return super().phases() if self.params.fine_tune else []


class Observer(Clockwork):
    """Asks for the gradients of every fourth step, which it looks at in no time."""

    def observes_gradients(self, progress: Progress) -> bool:
        return progress.step % 4 == 0


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training step takes 4 s, and 2 s more with a second backward pass; the methods above are registered."""
    train_step = TrainingRun._train_step

    def step(self: TrainingRun, batch: Any, progress: Progress, epoch: int) -> None:
        train_step(self, batch, progress, epoch)
        Watch.time += 6 if self.method is not None and self.method.observes_gradients(progress) else 4

    monkeypatch.setattr(TrainingRun, "_train_step", step)
    monkeypatch.setattr(overhead, "now", lambda: Watch.time)
    monkeypatch.setitem(methods._items, "clockwork", Clockwork)
    monkeypatch.setitem(methods._items, "free", TrainingFree)
    monkeypatch.setitem(methods._items, "observer", Observer)


def measure(names: list[str], **changes: Any) -> overhead.Benchmark:
    return overhead.run(**(overhead.QUICK | {"names": names} | changes))


def test_updates_are_spread_over_the_whole_budget(clockwork: None) -> None:
    found = measure(["clockwork"], steps=202, rounds=2)
    # Of 202 steps the first warms up and two are real ones; 20 of the others are followed by an update.
    hooks = 0.25 + 2 * 20 / 199 + (3 + 1) / 202
    assert found.ratios["clockwork/dense"] == pytest.approx(1 + hooks / 4)
    dense, _, row = found.rows
    assert dense["ratio"] == 1
    assert dense["step_ms"] == pytest.approx(4000)
    assert row["outside_hooks_ms"] == pytest.approx(4000)
    assert row["hooks_ms"] == pytest.approx(1000 * hooks)
    assert row["slowest_hooks_ms"] == pytest.approx(2250)


@pytest.mark.parametrize("rounds", [2, 3])
def test_second_backward_passes_count_by_their_number(clockwork: None, rounds: int) -> None:
    row = measure(["observer"], steps=200, rounds=rounds).rows[-1]
    # 2 s more in 50 of 200 steps.
    assert row["outside_hooks_ms"] == pytest.approx(1000 * (4 + 2 / 4))


def test_what_does_not_train_is_measured_while_it_fine_tunes(clockwork: None) -> None:
    row = measure(["free"], steps=100).rows[-1]
    assert row["steps_multiple"] == 0
    assert row["steps"] == 100
    assert row["of_which_once_ms"] == pytest.approx(1000 * 4 / 100)


def test_real_methods_beside_torch_prune() -> None:
    found = measure(["csp", "lottery", "magnitude", "sparsegpt", "xrda"])
    assert list(found.ratios) == [
        f"{name}/dense" for name in ("torch_prune", "csp", "lottery", "magnitude", "sparsegpt", "xrda")
    ]
    assert all(ratio > 0 for ratio in found.ratios.values())
    rows = {row["method"]: row for row in found.rows}
    assert rows["lottery"]["steps_multiple"] == 3
    assert rows["sparsegpt"]["steps_multiple"] == 0
    assert rows["csp"]["params"] == methods.get("csp").Params().model_dump(mode="json")
    assert "random" in found.protocol["speech"]


def test_a_budget_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="5 rounds need a budget of as many steps"):
        measure(["magnitude"], steps=4, rounds=5)
    with pytest.raises(ConfigError, match="did you mean 'magnitude'"):
        measure(["magnitud"])


def test_the_peer_prunes_along_the_ramp_and_the_recogniser_feels_it() -> None:
    torch.manual_seed(0)
    model = LSTMTransducer(Shape(8, 6, 2, 12, 1, 8, 10), mels=4)
    names = set(prunable_weights(model))
    peer = TorchPrune(model, PruningContext(prunable_weights(model), 0.9, 40))
    zeros = []
    for step in range(40):
        progress = Progress(step, 40, 0, 0.1)
        peer.before_forward(progress)
        output = model(torch.randn(2, 9, 8), torch.ones(2, 3, dtype=torch.long))
        sum(x.square().sum() for x in output).backward()
        peer.after_step(progress)
        zeros.append(sum(int((~mask).sum()) for mask in peer.masks().values()))
    assert zeros == sorted(zeros)
    assert len(set(zeros)) > 5
    assert zeros[-1] == peer.context.zeros
    masked = model.encoder(torch.ones(1, 3, 8))[0]
    peer.finish()
    assert set(prunable_weights(model)) == names
    assert sum(int((w == 0).sum()) for w in prunable_weights(model).values()) == peer.context.zeros
    torch.testing.assert_close(model.encoder(torch.ones(1, 3, 8))[0], masked)


def test_the_command_prints_one_json_object() -> None:
    result = CliRunner().invoke(app, ["bench", "overhead", "--quick", "--method", "magnitude", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"rows", "ratios", "protocol"}
    assert set(found["ratios"]) == {"magnitude/dense", "torch_prune/dense"}
