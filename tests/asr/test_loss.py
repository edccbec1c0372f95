"""The transducer loss against brute force, finite differences and an independent implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cspbench.asr.loss import joint_transducer_loss, transducer_loss


def brute_force(logits: Tensor, targets: list[int], frames: int, labels: int) -> Tensor:
    """Sum over every alignment, one by one: (T, U + 1, V) -> scalar."""
    log_probs = logits.log_softmax(-1)
    scores = []
    for emitting in itertools.combinations(range(frames - 1 + labels), labels):
        t = u = 0
        score = log_probs.new_zeros(())
        for move in range(frames - 1 + labels):
            if move in emitting:
                score = score + log_probs[t, u, targets[u]]
                u += 1
            else:
                score = score + log_probs[t, u, 0]
                t += 1
        scores.append(score + log_probs[t, u, 0])
    return -torch.logsumexp(torch.stack(scores), 0)


def problem(seed: int, n: int, t: int, u: int, v: int, dtype: torch.dtype = torch.double):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, t, u + 1, v, generator=generator, dtype=dtype) * 2
    targets = torch.randint(1, v, (n, u), generator=generator)
    frames = torch.randint(1, t + 1, (n,), generator=generator)
    labels = torch.randint(0, u + 1, (n,), generator=generator)
    frames[0], labels[0] = t, u
    return logits.requires_grad_(), targets, frames, labels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.integers(0, 4), st.integers(2, 5))
def test_value_and_gradient_equal_the_sum_over_all_alignments(seed: int, n: int, t: int, u: int, v: int) -> None:
    logits, targets, frames, labels = problem(seed, n, t, u, v)
    ours = transducer_loss(logits, targets, frames, labels, reduction="none")
    theirs = torch.stack(
        [brute_force(logits[i], targets[i].tolist(), int(frames[i]), int(labels[i])) for i in range(n)]
    )
    torch.testing.assert_close(ours, theirs)
    weight = torch.linspace(0.5, 2.0, n, dtype=torch.double)
    ours_gradient = torch.autograd.grad((ours * weight).sum(), logits)[0]
    theirs_gradient = torch.autograd.grad((theirs * weight).sum(), logits)[0]
    torch.testing.assert_close(ours_gradient, theirs_gradient)


def test_gradient_equals_finite_differences() -> None:
    logits, targets, frames, labels = problem(1, 3, 4, 3, 5)
    assert torch.autograd.gradcheck(lambda x: transducer_loss(x, targets, frames, labels, reduction="sum"), logits)


def test_agrees_with_warprnnt_numba() -> None:
    peer = pytest.importorskip("warprnnt_numba")
    logits, targets, frames, labels = problem(2, 5, 30, 12, 20, torch.float32)
    frames[:], labels[:] = 30, 12  # the peer's CPU path wants the longest utterance to fill the batch
    frames[1:], labels[1:] = torch.tensor([29, 17, 30, 12]), torch.tensor([3, 12, 5, 9])
    theirs = peer.RNNTLossNumba(blank=0, reduction="none")(logits, targets.int(), frames.int(), labels.int()).reshape(
        -1
    )
    theirs_gradient = torch.autograd.grad(theirs.sum(), logits)[0]
    ours = transducer_loss(logits, targets, frames, labels, reduction="none")
    ours_gradient = torch.autograd.grad(ours.sum(), logits)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours_gradient, theirs_gradient, rtol=1e-4, atol=1e-5)


def test_padding_neither_counts_nor_receives_gradient() -> None:
    logits, targets, frames, labels = problem(3, 2, 6, 4, 5)
    frames[1], labels[1] = 3, 2
    loss = transducer_loss(logits, targets, frames, labels, reduction="none")
    short = transducer_loss(logits[1:, :3, :3], targets[1:, :2], frames[1:], labels[1:], reduction="none")
    torch.testing.assert_close(loss[1:], short)
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    assert gradient[1, 3:].abs().max() == 0
    assert gradient[1, :, 3:].abs().max() == 0


def test_long_utterances_stay_exact_in_single_precision() -> None:
    logits, targets, frames, labels = problem(4, 2, 400, 80, 30)
    exact = transducer_loss(logits, targets, frames, labels, reduction="none")
    single = transducer_loss(logits.float(), targets, frames, labels, reduction="none")
    np.testing.assert_allclose(single.detach().numpy(), exact.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_half_precision_gradients_of_the_right_size(dtype: torch.dtype) -> None:
    logits, targets, frames, labels = problem(5, 2, 8, 4, 6)
    half = logits.detach().to(dtype).requires_grad_()
    transducer_loss(half, targets, frames, labels).backward()
    rounded = half.detach().double().requires_grad_()
    transducer_loss(rounded, targets, frames, labels).backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad.double(), rounded.grad, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": torch.tensor([5, 4])}, r"frames must be \(2,\) with values in \[1, 4\]"),
        ({"labels": torch.tensor([-1, 2])}, r"labels must be"),
        ({"targets": torch.ones(2, 3, dtype=torch.long)}, r"targets must be \(2, 2\)"),
        ({"reduction": "median"}, "reduction must be"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    logits = torch.zeros(2, 4, 3, 5)
    given_ = {"targets": torch.ones(2, 2, dtype=torch.long), "frames": torch.tensor([4, 4])}
    arguments = given_ | {"labels": torch.tensor([2, 2])} | change
    with pytest.raises(ValueError, match=message):
        transducer_loss(logits, **arguments)


def joint_problem(seed: int, n: int, t: int, u: int, v: int, width: int = 6, spread: float = 1.0, **to: object):
    """Projections and output layer, (leaves, lengths); a large `spread` leaves most nodes next to no occupancy."""
    _, *lengths = problem(seed, n, t, u, v)
    generator = torch.Generator().manual_seed(seed)
    shapes = (n, t, width), (n, u + 1, width), (v, width), (v,)
    leaves = [torch.randn(*shape, generator=generator, dtype=torch.double) * spread for shape in shapes]
    return [x.to(**to).requires_grad_() for x in leaves], lengths


def by_logits(encoded: Tensor, predicted: Tensor, weight: Tensor, bias: Tensor, *lengths: Tensor) -> Tensor:
    logits = torch.tanh(encoded[:, :, None] + predicted[:, None]) @ weight.t() + bias
    return transducer_loss(logits, *lengths, reduction="none")


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(0, 12),
    st.integers(2, 8),
    st.sampled_from([0.5, 2.0, 6.0]),
    st.sampled_from([7, 4096]),
)
def test_loss_of_projections_equals_loss_of_logits(
    seed: int, n: int, t: int, u: int, v: int, spread: float, chunk: int
) -> None:
    leaves, lengths = joint_problem(seed, n, t, u, v, spread=spread)
    weight = torch.linspace(0.5, 2.0, n, dtype=torch.double)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cspbench.asr.loss.CHUNK", chunk)
        ours = joint_transducer_loss(*leaves, *lengths, reduction="none")
        ours_gradients = torch.autograd.grad((ours * weight).sum(), leaves)
    theirs = by_logits(*leaves, *lengths)
    torch.testing.assert_close(ours, theirs)
    # A gradient is a sum of differences of probabilities: where all of them cancel, rounding is as large as it is.
    rounding = 1e-13 * spread
    for mine, other in zip(ours_gradients, torch.autograd.grad((theirs * weight).sum(), leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=max(1e-9 * float(other.abs().max()), rounding))


@pytest.mark.parametrize("spread", [0.5, 2.0, 6.0])
def test_loss_of_projections_is_as_exact_in_single_precision_as_that_of_logits(spread: float) -> None:
    doubles, lengths = joint_problem(11, 6, 60, 20, 8, spread=spread)
    singles = [x.detach().float().requires_grad_() for x in doubles]
    exact = torch.autograd.grad(by_logits(*doubles, *lengths).sum(), doubles)
    reference = torch.autograd.grad(by_logits(*singles, *lengths).sum(), singles)
    ours = torch.autograd.grad(joint_transducer_loss(*singles, *lengths, reduction="sum"), singles)
    for true, theirs, mine in zip(exact, reference, ours, strict=True):
        allowed = 3 * float((theirs - true).abs().max()) + 1e-5 * float(true.abs().max())
        assert float((mine - true).abs().max()) < allowed


def test_gradient_of_projections_equals_finite_differences() -> None:
    leaves, lengths = joint_problem(7, 3, 4, 3, 5, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda *x: joint_transducer_loss(*x, *lengths, reduction="sum"), leaves)


def test_nodes_left_out_of_the_gradient_leave_no_trace() -> None:
    leaves, lengths = joint_problem(8, 4, 120, 40, 12, width=32, spread=1.5, dtype=torch.float32)
    losses = joint_transducer_loss(*leaves, *lengths, reduction="none")
    gradients = torch.autograd.grad(losses.sum(), leaves)
    everything = pytest.MonkeyPatch()
    everything.setattr("cspbench.asr.loss._negligible", lambda dtype: -1.0)
    losses = joint_transducer_loss(*leaves, *lengths, reduction="none")
    whole = torch.autograd.grad(losses.sum(), leaves)
    everything.undo()
    for some, every in zip(gradients, whole, strict=True):
        torch.testing.assert_close(some, every, rtol=1e-5, atol=1e-6 * float(every.abs().max()))


def test_autocast_on_a_cpu_computes_in_single_precision() -> None:
    leaves, lengths = joint_problem(9, 3, 10, 4, 6, dtype=torch.float32)
    half = [x.detach().bfloat16().requires_grad_() for x in leaves[:2]] + leaves[2:]
    with torch.autocast("cpu", torch.bfloat16):
        loss = joint_transducer_loss(*half, *lengths)
    single = [x.detach().float().requires_grad_() for x in half]
    reference = joint_transducer_loss(*single, *lengths)
    torch.testing.assert_close(loss, reference)
    for mine, other in zip(torch.autograd.grad(loss, half), torch.autograd.grad(reference, single), strict=True):
        torch.testing.assert_close(mine.float(), other, rtol=1e-2, atol=1e-3)


def test_projections_of_wrong_lengths_are_refused() -> None:
    leaves, (targets, frames, labels) = joint_problem(10, 2, 4, 2, 5)
    with pytest.raises(ValueError, match=r"frames must be \(2,\) with values in \[1, 4\]"):
        joint_transducer_loss(*leaves, targets, frames + 4, labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_equals_cpu() -> None:
    logits, targets, frames, labels = problem(6, 4, 20, 10, 8, torch.float32)
    cpu = transducer_loss(logits, targets, frames, labels, reduction="none")
    gpu = transducer_loss(logits.cuda(), targets.cuda(), frames.cuda(), labels.cuda(), reduction="none")
    torch.testing.assert_close(gpu.cpu(), cpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_loss_of_projections_on_cuda_equals_cpu(precision: torch.dtype | None) -> None:
    leaves, lengths = joint_problem(6, 4, 20, 10, 8, dtype=torch.float32)
    cpu = joint_transducer_loss(*leaves, *lengths)
    there = [x.detach().cuda().requires_grad_() for x in leaves]
    with torch.autocast("cuda", precision, enabled=precision is not None):
        gpu = joint_transducer_loss(*there, *(x.cuda() for x in lengths))
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if precision is None else {"rtol": 3e-2, "atol": 3e-2}
    torch.testing.assert_close(gpu.cpu(), cpu, **tolerance)
    for mine, other in zip(torch.autograd.grad(gpu, there), torch.autograd.grad(cpu, leaves), strict=True):
        torch.testing.assert_close(mine.cpu(), other, **tolerance)


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_padding_may_hold_anything(filler: float) -> None:
    """Loss and gradient are those of the cropped call, and the gradient of the padding is zero."""
    torch.manual_seed(0)
    frames, labels = torch.tensor([5, 3]), torch.tensor([1, 2])
    targets = torch.randint(1, 6, (2, 2))
    logits = torch.randn(2, 5, 3, 6, dtype=torch.float64)
    inside = (torch.arange(5) < frames[:, None])[:, :, None] & (torch.arange(3) <= labels[:, None])[:, None]
    padded = logits.masked_fill(~inside[..., None], filler).requires_grad_()
    losses = transducer_loss(padded, targets, frames, labels, reduction="none")
    losses.sum().backward()
    assert padded.grad is not None
    assert not padded.grad[~inside].any()
    for n, (t, u) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        own = logits[n : n + 1, :t, : u + 1].clone().requires_grad_()
        alone = transducer_loss(own, targets[n : n + 1, :u], frames[n : n + 1], labels[n : n + 1], reduction="none")
        alone.sum().backward()
        assert own.grad is not None
        torch.testing.assert_close(losses[n], alone[0])
        torch.testing.assert_close(padded.grad[n, :t, : u + 1], own.grad[0])
