"""CTC: torch's loss on the CPU, and the Triton kernel against it, by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.triton_kernels import interpreted as interpret
from support.triton_kernels import machine_code
from torch import Tensor

from cspbench.asr import ctc

Problem = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def interpreted() -> Iterator[ModuleType]:
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not tested")
    from cspbench.asr import ctc_kernel

    with interpret(ctc_kernel) as module:
        yield module


def problem(n: int, t: int, u: int, dtype: torch.dtype = torch.double) -> Problem:
    """Logits, targets with repetitions, and lengths; the last utterance has no label and the first fills the batch."""
    generator = torch.Generator().manual_seed(n * 100 + t * 10 + u)
    logits = torch.randn(n, t, 4, generator=generator, dtype=torch.double).to(dtype).requires_grad_()
    targets = torch.randint(1, 4, (n, u), generator=generator)
    frames = torch.randint(max(1, t // 2), t + 1, (n,), generator=generator)
    labels = torch.randint(0, u + 1, (n,), generator=generator)
    frames[0], labels[0], labels[-1] = t, u, 0
    return logits, targets, frames, labels


@pytest.mark.parametrize(("n", "t", "u"), [(5, 12, 4), (2, 1, 0), (2, 1, 1), (3, 30, 9), (4, 5, 5), (2, 70, 33)])
def test_losses_and_gradients_of_the_kernel_are_torchs(interpreted: ModuleType, n: int, t: int, u: int) -> None:
    """Impossible alignments among them: five labels with repetitions do not fit into five frames."""
    logits, *rest = problem(n, t, u)
    weight = torch.linspace(0.5, 2.0, n, dtype=torch.double)
    found = []
    for of in (ctc.losses_by_kernel, ctc._by_torch):
        losses = of(logits.log_softmax(-1), *rest, 0)
        found.append((losses, torch.autograd.grad((losses * weight).sum(), logits)[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_one_label_in_two_frames_by_hand(interpreted: ModuleType) -> None:
    """Blank and label with probability 1/2 each: label-label, label-blank and blank-label are right, 3/4 in all."""
    log_probs = torch.full((1, 2, 2), 0.5).log()
    rest = torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]), 0
    torch.testing.assert_close(ctc.losses_by_kernel(log_probs, *rest).exp(), torch.tensor([4 / 3]))


def test_on_a_cpu_it_is_the_mean_of_torchs() -> None:
    logits, *rest = problem(5, 12, 4, torch.float32)
    expected = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), *rest, reduction="none", zero_infinity=True
    )
    assert torch.equal(ctc.ctc_loss(logits, *rest), expected.mean())


def test_the_kernel_agrees_with_torch_before_its_first_use(interpreted: ModuleType) -> None:
    assert ctc._kernel_agrees.__wrapped__(torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")
@pytest.mark.parametrize(("capability", "places"), [(80, 64), (90, 64)])
def test_the_kernel_compiles_for_gpus(capability: int, places: int, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not tested")
    from cspbench.asr import ctc_kernel
    from cspbench.asr.lattice_kernel import warps

    kinds = ["*fp32", "*i1", "*i64", "*i64", "*fp32", "*fp32", "i32", "i32"]
    constants = {"POSITIONS": places, "LOG_ZERO": ctc.LOG_ZERO}
    assert machine_code(ctc_kernel, kinds, constants, capability, warps(places), tmp_path)
