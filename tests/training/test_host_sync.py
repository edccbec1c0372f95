"""No place of a training step where a host waits for its GPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support.host_sync import HostSyncs
from support.toy_training import Loop, build, context_for, toy
from support.toy_transducer import some_model, some_run

from cspbench.corpora.batches import Batch
from cspbench.pruning.registry import pruning_names
from cspbench.spec import AugmentSpec
from cspbench.training.loop import TrainingRun


def a_step(device: str = "cpu") -> tuple[TrainingRun, int, Batch]:
    """A step of all that happens between two cuts: dropout, augmentation, all losses, gradients observed for csp."""
    run = some_run(
        None, "csp", device, epochs=20, distillation=0.5, augment=AugmentSpec(frequency_masks=1, time_masks=1)
    )
    assert run.method is not None
    run.teacher = some_model(device).eval()
    run._optimizer, run._scaler = run._fresh_optimizer()
    observed = (s for s in range(1, run.total) if run.method.observes_gradients(run.progress_at(s)))
    step = next(s for s in observed if not run.method.schedule.due(s + 1))
    return run, step, run.data.batches(run.spec, run.seed, 0)[0]()


def test_a_step_on_a_gpu_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel of the CTC loss stood in for: interpreted, it is made of copies to the host."""
    pytest.importorskip("triton", reason="Triton is not installed: without it the CTC loss waits")
    for module in ("loss", "ctc", "distillation"):
        monkeypatch.setattr(f"cspbench.asr.{module}.at_hand", lambda tensor: False)
    monkeypatch.setattr("cspbench.asr.ctc._kernel_agrees", lambda device: True)
    monkeypatch.setattr("cspbench.asr.ctc_kernel.forward_backward", lambda emitted, *_: (emitted * 2, emitted * 3))
    run, step, batch = a_step()
    with HostSyncs(
        [*run.model.parameters(), *run.model.buffers(), *run.teacher.parameters(), *vars(batch).values()]
    ) as syncs:
        run.advance(step, batch)
    assert syncs.found == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_step_on_cuda_does_not_wait_for_it() -> None:
    run, step, batch = a_step("cuda")
    run.advance(step - 1, batch)  # kernels are compiled and checked at first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.advance(step, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", pruning_names())
def test_methods_let_a_gpu_wait_when_masks_change_and_not_at_each_step(method: str) -> None:
    """A place that is met in a third of the steps is met in each step of some stretch of training."""
    model = toy()
    met: Counter[str] = Counter()
    with HostSyncs(model.parameters()) as syncs:
        training = Loop(model, build(method, {}, context_for(model, 0.8, 40)), 40)
        for step in range(training.total):
            syncs.found.clear()
            training.run(until=step + 1)
            met.update(set(syncs.found))
    often = [place for place, count in met.items() if count > training.total / 3]
    # What l1 does next depends on how many weights its threshold would drop: one question a step.
    assert len(often) == (method == "l1"), often
