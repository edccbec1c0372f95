"""The Triton kernel of the lattice recursion against torch's operations: by Triton's interpreter, on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.triton_kernels import interpreted as interpret
from support.triton_kernels import machine_code
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: its kernels are not tested")

from cspbench.asr import lattice_kernel, loss

Walk = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@pytest.fixture
def interpreted() -> Iterator[ModuleType]:
    with interpret(lattice_kernel) as module:
        yield module


def lattice(n: int, t: int, u: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities of blank and label, and lengths; the first utterance fills the batch, the last is minimal."""
    generator = torch.Generator().manual_seed(n * 100 + t * 10 + u)
    weights = torch.rand(2, n, t, u + 1, generator=generator, dtype=torch.double).log().to(dtype)
    frames = torch.randint(1, t + 1, (n,), generator=generator)
    labels = torch.randint(0, u + 1, (n,), generator=generator)
    frames[-1], labels[-1] = 1, 0
    frames[0], labels[0] = t, u
    blank, label = weights.masked_fill(~loss.inside_lattice(weights[0], frames, labels), loss.LOG_ZERO)
    return blank, label, frames, labels


@pytest.mark.parametrize(
    ("n", "t", "u"), [(4, 12, 7), (1, 1, 0), (3, 1, 6), (3, 9, 0), (2, 5, 16), (2, 8, 31), (1, 3, 140), (2, 40, 3)]
)
def test_forward_and_backward_variables(interpreted: ModuleType, n: int, t: int, u: int) -> None:
    dtype = torch.float64 if n == 4 else torch.float32
    problem = lattice(n, t, u, dtype)
    for ours, theirs in zip(
        interpreted.forward_backward(*problem), loss._torch_forward_backward(*problem), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
        assert ours.dtype == dtype


def test_two_frames_and_one_label_by_hand(interpreted: ModuleType) -> None:
    """Blank and label have probability 1/2 and 1/4 everywhere; two alignments: label first, or a blank first."""
    blank, label = torch.full((1, 2, 2), 0.5).log(), torch.full((1, 2, 2), 0.25).log()
    alpha, beta = interpreted.forward_backward(blank, label, torch.tensor([2]), torch.tensor([1]))
    torch.testing.assert_close(alpha.exp(), torch.tensor([[[1, 0.25], [0.5, 0.25]]]))
    torch.testing.assert_close(beta.exp(), torch.tensor([[[0.125, 0.25], [0.125, 0.5]]]))


@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # of a branch not taken
def test_arcs_of_probability_zero(interpreted: ModuleType) -> None:
    blank, label, frames, labels = lattice(2, 4, 3)
    blank[0, 1, :], label[0, 1, :] = -torch.inf, -torch.inf
    for ours, theirs in zip(
        interpreted.forward_backward(blank, label, frames, labels),
        loss._torch_forward_backward(blank, label, frames, labels),
        strict=True,
    ):
        torch.testing.assert_close(ours.exp(), theirs.exp())


def test_losses_and_gradients(interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole loss, on a ragged batch."""
    _, _, frames, labels = lattice(4, 10, 6)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 10, 7, 5, generator=generator, requires_grad=True)
    targets = torch.randint(1, 5, (4, 6), generator=generator)

    def of(walk: Walk) -> tuple[Tensor, Tensor]:
        monkeypatch.setattr(loss, "_forward_backward", walk)
        losses = loss.transducer_loss(logits, targets, frames, labels, reduction="none")
        return losses, torch.autograd.grad((losses * torch.arange(1.0, 5.0)).sum(), logits)[0]

    for ours, theirs in zip(of(interpreted.forward_backward), of(loss._torch_forward_backward), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.fixture
def untried() -> Iterator[None]:
    loss._kernel_agrees.cache_clear()
    yield
    loss._kernel_agrees.cache_clear()


def test_a_kernel_that_agrees_is_used_without_a_word(interpreted: ModuleType, untried: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loss._kernel_agrees(torch.device("cpu"))


@pytest.mark.parametrize("wrong", ["raises", "errs"])
def test_a_kernel_that_fails_is_replaced_with_a_warning(
    untried: None, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def walk(*problem: Tensor) -> tuple[Tensor, Tensor]:
        if wrong == "raises":
            raise RuntimeError("no compiler")
        alpha, beta = loss._torch_forward_backward(*problem)
        return alpha, beta + 0.01

    monkeypatch.setattr(lattice_kernel, "forward_backward", walk)
    with pytest.warns(UserWarning, match="slower: RuntimeError: no compiler|slower: its results are wrong"):
        assert not loss._kernel_agrees(torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")
@pytest.mark.parametrize(("capability", "positions"), [(80, 32), (90, 32), (90, 512)])
def test_the_kernel_compiles_for_gpus(capability: int, positions: int, tmp_path: Path) -> None:
    kinds = ["*fp32", "*fp32", "*i64", "*i64", "*fp32", "*fp32", "i32", "i32"]
    constants = {"POSITIONS": positions, "LOG_ZERO": loss.LOG_ZERO}
    assert machine_code(lattice_kernel, kinds, constants, capability, lattice_kernel.warps(positions), tmp_path)
