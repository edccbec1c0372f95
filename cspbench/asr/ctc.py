"""Connectionist temporal classification (CTC; Graves et al. 2006): a recogniser's loss, or an encoder's auxiliary one.

On a CPU it is torch's. On CUDA torch's reads the lengths of a batch on the host, which then waits for the GPU at every
step; where Triton is installed, `cspbench.asr.ctc_kernel` takes its place.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from cspbench.asr.kernel_check import kernel_works
from cspbench.asr.loss import LOG_ZERO, at_hand


def ctc_loss(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = 0) -> Tensor:
    """Return the mean of `ctc_losses`, a scalar."""
    return ctc_losses(logits, targets, frames, labels, blank).mean()


def ctc_losses(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = 0) -> Tensor:
    """Negative log-likelihood of the targets of each utterance; one without any alignment counts zero.

    An utterance has none if its frames are fewer than its labels and the pairs of equal neighbours among them.

    Args:
        logits: unnormalised, (N, T, V), any floating dtype; computed in fp32.
        targets: label ids, (N, U), int64; entries past `labels` are ignored but must be valid ids.
        frames: valid frames of each utterance, (N,), between 1 and T.
        labels: valid labels of each utterance, (N,), between 0 and U.
        blank: id of the blank unit, no label.

    Returns:
        (N,), fp32.
    """
    log_probs = logits.float().log_softmax(-1)  # (N, T, V)
    if at_hand(logits) or not _kernel_agrees(logits.device):
        return _by_torch(log_probs, targets, frames, labels, blank)
    return losses_by_kernel(log_probs, targets, frames, labels, blank)


def losses_by_kernel(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Return the loss of each utterance, (N,), by the kernel; arguments as for `ctc_loss`, but log-probabilities.

    The states of an utterance are its labels with a blank before, between and after them: S = 2 U + 1. A path may
    pass over the blank between two labels that differ.
    """
    n, u = targets.shape
    states = targets.new_full((n, 2 * u + 1), blank)
    states[:, 1::2] = targets
    passes = torch.zeros_like(states, dtype=torch.bool)  # from the state two before
    passes[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    emitted = log_probs.gather(2, states[:, None].expand(-1, log_probs.shape[1], -1))  # (N, T, S)
    losses: Tensor = _Paths.apply(emitted, passes, frames, labels)
    return losses


def _by_torch(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> Tensor:
    return nn.functional.ctc_loss(
        log_probs.transpose(0, 1), targets, frames, labels, blank=blank, reduction="none", zero_infinity=True
    )


@cache
def _kernel_agrees(device: torch.device) -> bool:
    """Try the kernel on two utterances, once a process; warn and return False if it fails or errs."""
    logits = torch.arange(90.0, device=device).mul(0.7).sin().mul(2).view(2, 9, 5)
    targets = torch.tensor([[1, 1, 2], [3, 4, 1]], device=device)
    rest = targets, torch.tensor([9, 4], device=device), torch.tensor([3, 2], device=device), 0
    log_probs = logits.log_softmax(-1)
    return kernel_works(
        "the CTC loss", lambda: [losses_by_kernel(log_probs, *rest)], lambda: [_by_torch(log_probs, *rest)]
    )


class _Paths(torch.autograd.Function):
    """Loss of each utterance from the log-probabilities of its states, (N, T, S).

    Its gradient is minus the probability that a path is in a state (Graves et al. 2006, eqs. 14 and 15).
    """

    @staticmethod
    def forward(ctx: Any, emitted: Tensor, passes: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        from cspbench.asr.ctc_kernel import forward_backward

        alpha, beta = forward_backward(emitted, passes, frames, labels)
        begins = nn.functional.pad(beta[:, 0], (0, 1), value=LOG_ZERO)  # without a label there is one state
        likelihood = torch.logaddexp(begins[:, 0], begins[:, 1])
        possible = likelihood > LOG_ZERO / 2
        ctx.save_for_backward(emitted, alpha, beta, likelihood, possible)
        return torch.where(possible, -likelihood, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        emitted, alpha, beta, likelihood, possible = ctx.saved_tensors
        inside = (alpha > LOG_ZERO / 2) & (beta > LOG_ZERO / 2) & possible[:, None, None]
        occupied = torch.exp(alpha + beta - emitted - likelihood[:, None, None])
        return torch.where(inside, -occupied, 0.0) * grads[0][:, None, None], None, None, None
