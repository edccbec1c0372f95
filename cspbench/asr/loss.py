"""The transducer (RNN-T) loss of Graves 2012 (arXiv:1211.3711) in plain torch, with its analytic gradient.

The lattice of an utterance has T frames and U labels. A node (t, u) is left by *blank* to (t + 1, u) or by the next
label to (t, u + 1). All nodes with equal t + u form an anti-diagonal and depend only on the one before, so the
recursion runs over T + U diagonals with every label position and every utterance of the batch in one operation. The
backward variables obey the same recursion on the lattice turned around; both are computed in one sweep, as one batch of
twice the size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Stands for log 0: finite, so that differences of two of them are not NaN.
LOG_ZERO = -1e30


def transducer_loss(
    logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = 0, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of the targets, summed over all alignments.

    Args:
        logits: unnormalised joint outputs, (N, T, U + 1, V), any floating dtype; the lattice is computed in at least
            fp32.
        targets: label ids, (N, U), int64; entries past `labels` are ignored but must be valid ids.
        frames: valid frames of each utterance, (N,), between 1 and T.
        labels: valid labels of each utterance, (N,), between 0 and U.
        blank: id of the blank unit.
        reduction: ``"mean"`` or ``"sum"`` over utterances, or ``"none"``.

    Returns:
        A scalar, or (N,) for ``"none"``, in fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: shapes or lengths that do not fit together.
    """
    _check(logits, targets, frames, labels, reduction)
    losses = _TransducerLoss.apply(logits, targets, frames, labels, blank)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _check(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if logits.dim() != 4:
        raise ValueError(f"logits must be (N, T, U + 1, V), got {tuple(logits.shape)}")
    n, t, u1, _ = logits.shape
    if targets.shape != (n, u1 - 1):
        raise ValueError(f"targets must be {(n, u1 - 1)} for logits {tuple(logits.shape)}, got {tuple(targets.shape)}")
    for name, lengths, low, high in (("frames", frames, 1, t), ("labels", labels, 0, u1 - 1)):
        if lengths.shape != (n,) or lengths.min() < low or lengths.max() > high:
            raise ValueError(f"{name} must be ({n},) with values in [{low}, {high}], got {lengths.tolist()}")


class _TransducerLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        normaliser = torch.logsumexp(logits.to(dtype), dim=-1)  # (N, T, U+1)
        log_blank = logits[..., blank].to(dtype) - normaliser
        index = targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        log_label = logits[:, :, :-1].gather(-1, index)[..., 0].to(dtype) - normaliser[:, :, :-1]
        # A label cannot leave the last position; the extra column makes both arrays (N, T, U+1).
        log_label = torch.nn.functional.pad(log_label, (0, 1), value=LOG_ZERO)
        alpha, beta = _forward_backward(log_blank, log_label, frames, labels)
        likelihood = beta[:, 0, 0]
        ctx.save_for_backward(logits, normaliser, log_blank, log_label, alpha, beta, targets, frames, labels)
        ctx.blank = blank
        return -likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        logits, normaliser, log_blank, log_label, alpha, beta, targets, frames, labels = ctx.saved_tensors
        weight = grads[0][:, None, None]  # (N, 1, 1)
        forward = alpha - beta[:, :1, :1]
        # Leaving the last node by blank ends the utterance: its continuation has log-probability 0.
        after_blank = torch.nn.functional.pad(beta[:, 1:], (0, 0, 0, 1), value=LOG_ZERO)
        n = torch.arange(len(frames), device=frames.device)
        after_blank[n, frames - 1, labels] = 0.0
        after_label = torch.nn.functional.pad(beta[:, :, 1:], (0, 1), value=LOG_ZERO)
        by_blank = weight * torch.exp(forward + log_blank + after_blank)
        by_label = weight * torch.exp(forward + log_label + after_label)
        gradient = torch.exp(logits.to(normaliser.dtype) - normaliser[..., None])
        gradient *= (by_blank + by_label)[..., None]
        gradient[..., ctx.blank] -= by_blank
        index = targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        gradient[:, :, :-1].scatter_add_(-1, index, -by_label[:, :, :-1, None])
        return gradient.to(logits.dtype), None, None, None, None


def _forward_backward(log_blank: Tensor, log_label: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and beta, (N, T, U+1); entries outside an utterance's own lattice are LOG_ZERO.

    Written for arrival: ``a(t, u) = logaddexp(a(t-1, u) + in_blank(t, u), a(t, u-1) + in_label(t, u))``. Going forward
    the arc into (t, u) carries the weight of the node it leaves; on the reversed lattice, that of the node it enters.
    """
    pad = torch.nn.functional.pad
    forward_blank = pad(log_blank[:, :-1], (0, 0, 1, 0), value=LOG_ZERO)
    forward_label = pad(log_label[:, :, :-1], (1, 0), value=LOG_ZERO)
    turned_blank, turned_label, inside = _turn(log_blank, log_label, frames, labels)
    ends = turned_blank[:, 0, 0].clone()
    start = torch.cat([torch.zeros_like(ends), ends])
    arrivals = _diagonal_recursion(
        torch.cat([forward_blank, turned_blank]), torch.cat([forward_label, turned_label]), start
    )
    alpha, turned = arrivals.chunk(2)
    beta, _, _ = _turn(turned, turned, frames, labels)
    return alpha.masked_fill(~inside, LOG_ZERO), beta


def _turn(first: Tensor, second: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reverse two (N, T, U+1) arrays in time and label within each utterance's own lattice; also say what is inside."""
    _, t, u1 = first.shape
    time = frames[:, None] - 1 - torch.arange(t, device=first.device)  # (N, T)
    label = labels[:, None] - torch.arange(u1, device=first.device)  # (N, U+1)
    inside = (time >= 0)[:, :, None] & (label >= 0)[:, None, :]
    index = (time.clamp(min=0)[:, :, None] * u1 + label.clamp(min=0)[:, None, :]).flatten(1)

    def turned(x: Tensor) -> Tensor:
        return x.flatten(1).gather(1, index).view_as(x).masked_fill(~inside, LOG_ZERO)

    return turned(first), turned(second), inside


def _diagonal_recursion(in_blank: Tensor, in_label: Tensor, start: Tensor) -> Tensor:
    """Run the recursion over anti-diagonals; (M, T, U+1) weights and (M,) start values in, (M, T, U+1) out."""
    m, t, u1 = in_blank.shape
    diagonal = torch.arange(t + u1 - 1, device=in_blank.device)[:, None]
    label = torch.arange(u1, device=in_blank.device)
    time = diagonal - label  # (D, U+1)
    outside = (time < 0) | (time >= t)
    index = time.clamp(0, t - 1) * u1 + label

    def skewed(x: Tensor) -> Tensor:  # (M, T, U+1) -> (D, M, U+1)
        return x.flatten(1)[:, index].masked_fill(outside, LOG_ZERO).transpose(0, 1).contiguous()

    blank, emit = skewed(in_blank), skewed(in_label)
    rows = torch.full_like(blank, LOG_ZERO)
    rows[0, :, 0] = start
    for d in range(1, len(rows)):
        stay = rows[d - 1] + blank[d]
        move = rows[d - 1, :, :-1] + emit[d, :, 1:]
        rows[d, :, 0] = stay[:, 0]
        torch.logaddexp(stay[:, 1:], move, out=rows[d, :, 1:])
    back = (torch.arange(t, device=in_blank.device)[:, None] + label)[None].expand(m, -1, -1)  # t + u
    return rows.permute(1, 0, 2).gather(1, back.reshape(m, -1, u1))
