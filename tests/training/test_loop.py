"""The training loop: its schedule, its augmentation, and that an interrupted run ends like an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_transducer import some_data, some_run

from cspbench.errors import CspbenchError
from cspbench.pruning.registry import pruning_names
from cspbench.spec import AugmentSpec, TrainSpec
from cspbench.store import write_jsonl
from cspbench.training import loop
from cspbench.training.loop import one_cycle, spec_augment
from cspbench.training.steps import StepLog
from cspbench.trials.records import read_rows


class KilledError(Exception):
    """Stands for a signal that ends the process."""


def test_training_lowers_the_loss_and_repeats_itself() -> None:
    first, second = some_run(None, learning_rate=5e-3), some_run(None, learning_rate=5e-3)
    first.run()
    second.run()
    assert first.curve[-1]["loss"] < 0.8 * first.curve[0]["loss"]
    assert first.curve == second.curve
    assert [row["epoch"] for row in first.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize("method", [None, *pruning_names()])
@pytest.mark.parametrize("killed_at", [7, 13])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    method: str | None, killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = some_run(None, method)
    if not whole.total:
        pytest.skip("does not train")
    whole.run()
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after every step

    killed = some_run(tmp_path, method)

    def kill(step: int) -> None:
        if step == killed_at:
            raise KilledError

    killed.on_step = kill
    with pytest.raises(KilledError):
        killed.run()
    resumed, steps = some_run(tmp_path, method), []
    resumed.on_step = steps.append
    resumed.run()
    assert steps[0] == killed_at
    assert steps[-1] == resumed.total
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert resumed.curve == whole.curve


def test_a_finished_run_started_again_does_nothing(tmp_path: Path) -> None:
    first = some_run(tmp_path)
    first.run()
    again, steps = some_run(tmp_path), []
    again.on_step = steps.append
    again.run()
    assert steps == [again.total]
    assert again.curve == first.curve


def test_losses_of_single_steps_are_kept_and_right_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = some_run(None, "magnitude"), some_run(tmp_path, "magnitude")
    monkeypatch.setattr(loop, "StepLog", partial(StepLog, points=9))
    whole.steps, resumed.steps = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    whole.run()
    rows = read_rows(whole.steps)
    assert 5 <= len(rows) <= 9
    assert rows[-1]["step"] == whole.total
    assert all(row["gradient_norm"] > 0 and row["loss"] > 0 for row in rows)
    assert rows[0]["learning_rate"] == whole.progress_at(int(rows[0]["step"]) - 1).learning_rate
    assert rows[0]["sparsity"] < rows[-1]["sparsity"] == whole.curve[-1]["sparsity"]
    assert all(row.pop("utterances_per_second") > 0 for row in rows)
    # What a killed run wrote beyond its last checkpoint is written again.
    write_jsonl(resumed.steps, [{"step": step, "loss": -1.0} for step in (1, 2, whole.total)])
    resumed.run()
    assert [{k: v for k, v in row.items() if k != "utterances_per_second"} for row in read_rows(resumed.steps)] == rows


def test_a_method_without_training_prunes_once_and_is_recorded(tmp_path: Path) -> None:
    first = some_run(tmp_path, "sparsegpt")
    first.evaluate = lambda: {"dev_wer": 12.5}
    first.run()
    assert first.method is not None
    assert first.total == 0
    assert first.curve == [{"step": 0, "epoch": 0.0, "sparsity": pytest.approx(0.6, abs=1e-2), "dev_wer": 12.5}]
    assert first.seconds > 0
    again = some_run(tmp_path, "sparsegpt")
    assert again.method is not None
    again.method.start = lambda: pytest.fail("weights that have been pruned are not pruned anew")  # type: ignore
    again.run()
    assert again.curve == first.curve
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_loss_that_is_not_a_number_stops_the_run() -> None:
    run = some_run(None)
    with torch.no_grad():
        run.model.joint_output.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run.run()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_or_says_what_it_needs(precision: str) -> None:
    cuda = torch.cuda.is_available()
    if not cuda and (precision == "fp16" or not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        with pytest.raises(CspbenchError, match=f"precision {precision} needs"):
            some_run(None, precision=precision)
        return
    run = some_run(None, learning_rate=5e-3, precision=precision, device="cuda" if cuda else "cpu")
    run.run()
    assert run.curve[-1]["loss"] < 0.9 * run.curve[0]["loss"]


def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    rates = [one_cycle(i, 100, 2.0, 0.25) for i in range(100)]
    peak = int(np.argmax(rates))
    assert peak == pytest.approx(25, abs=1)
    assert max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_spec_augment_masks_bands_within_bounds_and_leaves_padding_alone() -> None:
    torch.manual_seed(0)
    features, frames = torch.ones(200, 30, 8), torch.randint(10, 31, (200,))
    spec = AugmentSpec(frequency_masks=1, frequency_width=2, time_masks=1, time_width=3)
    masked = spec_augment(features, frames, mels=4, spec=spec).unflatten(-1, (2, 4)) == 0  # (N, T, stack, mels)
    whole_mels = masked.all(dim=1).all(dim=1).sum(-1)
    whole_steps = masked.flatten(2).all(-1).sum(-1)
    assert set(whole_mels.tolist()) == {0, 1, 2}
    assert set(whole_steps.tolist()) == {0, 1, 2, 3}
    last = masked.flatten(2).all(-1)  # a time mask never reaches into the padding
    assert not any(last[i, n:].any() for i, n in enumerate(frames.tolist()))


def test_no_masks_change_nothing() -> None:
    features = torch.randn(3, 9, 8)
    spec = AugmentSpec(frequency_masks=0, time_masks=0)
    assert torch.equal(spec_augment(features, torch.tensor([9, 4, 2]), 4, spec), features)


def test_a_run_steps_aside_before_each_step_and_does_not_count_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by an hour in each pause, and by a second when it is read around a step."""
    now, done = [0.0], []

    def read() -> float:
        now[0] += 1
        return now[0]

    @contextmanager
    def working() -> Iterator[Callable[[], None]]:
        def pause() -> None:
            now[0] += 3600
            done.append(now[0])

        yield pause

    monkeypatch.setattr(loop, "working", working)
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop.time, "perf_counter", read)
    run = some_run(None)
    run.run()
    assert len(done) == run.total
    assert run.seconds == run.total


def test_gradients_of_dropped_weights_do_not_count_towards_the_clipped_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 97.5 % zeros the gradients of dropped weights are most of the norm: clipping must not see them."""
    run = some_run(None, "magnitude")
    seen: list[dict[str, torch.Tensor]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def recording(parameters: Any, limit: float) -> torch.Tensor:
        assert run.method is not None
        seen.append({name: w.grad.clone() for name, w in run.method.context.weights.items()})
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recording)
    run.run()
    assert run.method is not None
    masks = run.method.masks()
    assert all(not gradient[~masks[name]].any() for name, gradient in seen[-1].items())
    assert any(gradient[masks[name]].any() for name, gradient in seen[-1].items())


def test_a_method_observes_the_gradient_of_the_own_loss_unclipped() -> None:
    """The auxiliary CTC loss and the clipping change what the optimiser gets, and nothing of what a method learns."""
    seen: dict[float, dict[str, torch.Tensor]] = {}
    for weight in (0.0, 5.0):
        run = some_run(None, "csp", ctc_weight=weight, clip=1e-6)
        assert run.method is not None

        def keep(_: object, found: dict[str, torch.Tensor], weight: float = weight) -> None:
            seen[weight] = {name: gradient.clone() for name, gradient in found.items()}

        run.method.observe_gradients = keep  # type: ignore[method-assign, assignment]
        run._optimizer, run._scaler = run._fresh_optimizer()
        run.advance(0, run.data.batches(run.spec, run.seed, 0)[0]())
    for name, gradient in seen[0.0].items():
        torch.testing.assert_close(seen[5.0][name], gradient, msg=name)
    assert sum(float(g.norm()) ** 2 for g in seen[0.0].values()) ** 0.5 > 1e-3


def test_edges_change_from_the_start_epoch_on_and_are_repeatable() -> None:
    data = some_data()
    spec = TrainSpec(batch_size=4, augment=AugmentSpec(start_epoch=2, edges=1.0, silence_frames=6))

    def frames(epoch: int) -> dict[int, int]:
        batches = [make() for make in data.batches(spec, seed=0, epoch=epoch)]
        return {i: int(n) for batch in batches for i, n in zip(batch.indices, batch.frames, strict=True)}

    plain = dict(enumerate(data.by_speed[1.0].lengths().tolist()))
    assert frames(0) == frames(1) == plain
    assert frames(2) != plain
    assert frames(2) == frames(2)
    assert frames(2) != frames(3)
