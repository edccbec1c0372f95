"""The transducer (RNN-T) loss of Graves 2012 (arXiv:1211.3711) in plain torch, with its analytic gradient.

The lattice of an utterance has T frames and U labels. A node (t, u) is left by *blank* to (t + 1, u) or by the next
label to (t, u + 1). All nodes with equal t + u form an anti-diagonal and depend only on the one before, so the
recursion runs over T + U diagonals with every label position and every utterance of the batch in one operation. The
backward variables obey the same recursion on the lattice turned around; both are computed in one sweep, as one batch of
twice the size. On CUDA all of that is one Triton kernel, where Triton is installed: `cspbench.asr.lattice_kernel`.

There are two ways in: `transducer_loss` takes the logits of every node; `joint_transducer_loss` takes what the joint
network makes them of, and on a CPU never holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from cspbench.asr.kernel_check import kernel_works

# Stands for log 0: finite, so that differences of two of them are not NaN.
LOG_ZERO = -1e30

# Lattice nodes whose logits are formed at once on a CPU: enough for a matrix product, few enough for its cache.
CHUNK = 4096


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
        ValueError: shapes or lengths that do not fit together. Values of lengths on a GPU are asserted there, as torch
            asserts indices.
    """
    _check(logits, targets, frames, labels, reduction)
    return _reduce(_TransducerLoss.apply(logits, targets, frames, labels, blank), reduction)


def joint_transducer_loss(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    frames: Tensor,
    labels: Tensor,
    blank: int = 0,
    reduction: str = "mean",
) -> Tensor:
    """`transducer_loss` of the logits ``weight @ tanh(encoded[t] + predicted[u]) + bias``.

    A CPU spends its time on memory here, so it goes through the valid nodes chunk by chunk and keeps nothing of the
    joint's width; a GPU is faster on the whole padded lattice at once. This is the one place that chooses.

    Args:
        encoded: encodings projected to the joint's width, (N, T, J).
        predicted: predictions projected to the joint's width, (N, U + 1, J).
        weight: of the joint's output layer, (V, J).
        bias: of the joint's output layer, (V,).
        targets: as for `transducer_loss`, like all that follows.
        frames: (N,).
        labels: (N,).
        blank: id of the blank unit.
        reduction: over utterances.

    Returns:
        A scalar, or (N,) for ``"none"``; on a CPU in fp32 even under autocast (fp64 for fp64 inputs).

    Raises:
        ValueError: shapes or lengths that do not fit together. Values of lengths on a GPU are asserted there, as torch
            asserts indices.
    """
    if not at_hand(encoded):
        logits = nn.functional.linear(torch.tanh(encoded[:, :, None] + predicted[:, None]), weight, bias)
        return transducer_loss(logits, targets, frames, labels, blank, reduction)
    lattice = torch.empty(*encoded.shape[:2], predicted.shape[1], len(bias), device="meta")
    _check(lattice, targets, frames, labels, reduction)
    return _reduce(_JointLoss.apply(encoded, predicted, weight, bias, targets, frames, labels, blank), reduction)


def _reduce(losses: Tensor, reduction: str) -> Tensor:
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
        if lengths.shape == (n,) and not at_hand(lengths):
            torch._assert_async(((lengths >= low) & (lengths <= high)).all(), f"{name} outside [{low}, {high}]")
        elif lengths.shape != (n,) or lengths.min() < low or lengths.max() > high:
            raise ValueError(f"{name} must be ({n},) with values in [{low}, {high}], got {lengths.tolist()}")


def at_hand(tensor: Tensor) -> bool:
    """Return False for a tensor on a GPU: to ask for its values, the host would wait until they are computed."""
    return tensor.device.type == "cpu"


class _TransducerLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        normaliser = torch.logsumexp(logits.to(dtype), dim=-1)  # (N, T, U+1)
        log_blank = logits[..., blank].to(dtype) - normaliser
        index = targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        log_label = logits[:, :, :-1].gather(-1, index)[..., 0].to(dtype) - normaliser[:, :, :-1]
        # A label cannot leave the last position; the extra column makes both arrays (N, T, U+1).
        log_label = nn.functional.pad(log_label, (0, 1), value=LOG_ZERO)
        # Padding may hold anything, NaN included: zero times NaN is NaN.
        outside = ~inside_lattice(logits, frames, labels)
        log_blank, log_label = (x.masked_fill(outside, LOG_ZERO) for x in (log_blank, log_label))
        alpha, beta = _forward_backward(log_blank, log_label, frames, labels)
        likelihood = beta[:, 0, 0]
        ctx.save_for_backward(logits, normaliser, log_blank, log_label, alpha, beta, targets, frames, labels)
        ctx.blank = blank
        return -likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        logits, normaliser, log_blank, log_label, alpha, beta, targets, frames, labels = ctx.saved_tensors
        by_blank, by_label = _arc_occupancies(log_blank, log_label, alpha, beta, frames, labels)
        by_blank *= grads[0][:, None, None]
        by_label *= grads[0][:, None, None]
        gradient = torch.exp(logits.to(normaliser.dtype) - normaliser[..., None])
        gradient *= (by_blank + by_label)[..., None]
        gradient[..., ctx.blank] -= by_blank
        index = targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        gradient[:, :, :-1].scatter_add_(-1, index, -by_label[:, :, :-1, None])
        gradient.masked_fill_(~inside_lattice(logits, frames, labels)[..., None], 0.0)
        return gradient.to(logits.dtype), None, None, None, None


class _JointLoss(torch.autograd.Function):
    """The loss, computed chunk by chunk; the backward pass computes chunks again, which is cheaper than keeping them.

    With occupancies ``b`` and ``l`` of the two arcs that leave a node, y its probabilities and h its hidden vector, the
    gradient of the node's logits is ``g = (b + l) y - b e_blank - l e_label`` (Graves 2012, eq. 20, before its softmax)
    and that of encoded[t] + predicted[u] is ``(W^T g) (1 - h^2)``, to be summed over u and over t. All of it is
    proportional to b + l, and each frame and each label position holds an occupancy of one or more in total: nodes
    below `_negligible` could change no sum by its last bit, and most nodes of a trained model are.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        encoded: Tensor,
        predicted: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        frames: Tensor,
        labels: Tensor,
        blank: int,
    ) -> Tensor:
        log_blank = encoded.new_zeros(*encoded.shape[:2], predicted.shape[1])  # (N, T, U+1)
        log_label = torch.full_like(log_blank, LOG_ZERO)
        for n, rows, columns in lattice_chunks(frames, labels):
            hidden = tanh_(encoded[n, rows, None] + predicted[n, :columns])  # (t, U+1, J)
            log_probs = nn.functional.linear(hidden, weight, bias).log_softmax(-1)
            index = targets[n, : columns - 1].expand(len(hidden), -1)[..., None]
            log_blank[n, rows, :columns] = log_probs[..., blank]
            log_label[n, rows, : columns - 1] = log_probs[:, :-1].gather(-1, index)[..., 0]
        alpha, beta = _forward_backward(log_blank, log_label, frames, labels)
        by_blank, by_label = _arc_occupancies(log_blank, log_label, alpha, beta, frames, labels)
        ctx.save_for_backward(encoded, predicted, weight, bias, targets, frames, labels, by_blank, by_label)
        ctx.blank = blank
        return -beta[:, 0, 0]

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        encoded, predicted, weight, bias, targets, frames, labels, by_blank, by_label = ctx.saved_tensors
        sums = [torch.zeros_like(x) for x in (encoded, predicted, weight, bias)]
        # The last position has no next label, and an occupancy of zero for it.
        following = nn.functional.pad(targets, (0, 1))
        for n, rows, columns in lattice_chunks(frames, labels):
            here = (n, rows, slice(columns))
            time, label = (by_blank[here] + by_label[here] > _negligible(encoded.dtype)).nonzero(as_tuple=True)
            blanks, emits = grads[0][n] * by_blank[here][time, label], grads[0][n] * by_label[here][time, label]
            hidden = tanh_(encoded[n, rows].index_select(0, time) + predicted[n].index_select(0, label))
            gradient = nn.functional.linear(hidden, weight, bias).softmax(-1)  # (nodes, V)
            gradient *= (blanks + emits)[:, None]
            gradient[:, ctx.blank] -= blanks
            gradient.scatter_add_(1, following[n, label][:, None], -emits[:, None])
            inner = (gradient @ weight) * (1 - hidden.square())  # (nodes, J)
            sums[0][n, rows].index_add_(0, time, inner)
            sums[1][n].index_add_(0, label, inner)
            sums[2].addmm_(gradient.t(), hidden)
            sums[3] += gradient.sum(0)
        return *sums, None, None, None, None


def lattice_chunks(frames: Tensor, labels: Tensor) -> Iterator[tuple[int, slice, int]]:
    """Yield chunks of about `CHUNK` lattice nodes: utterance, its frames, its number of label positions."""
    for n, (end, columns) in enumerate(zip(frames.tolist(), (labels + 1).tolist(), strict=True)):
        stride = max(1, CHUNK // columns)
        for start in range(0, end, stride):
            yield n, slice(start, min(start + stride, end)), columns


def tanh_(x: Tensor) -> Tensor:
    """Tanh in place as ``2 sigmoid(2x) - 1``: right to 2e-7, and on a CPU in a third of the time of torch's own."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _negligible(dtype: torch.dtype) -> float:
    """Occupancy of a node that no sum over a frame or a label position can feel: a hundredth of its rounding."""
    return torch.finfo(dtype).eps / 100


def _arc_occupancies(
    log_blank: Tensor, log_label: Tensor, alpha: Tensor, beta: Tensor, frames: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Posterior probability that an alignment leaves a node by blank, and by label; each (N, T, U+1)."""
    forward = alpha - beta[:, :1, :1]
    # Leaving the last node by blank ends the utterance: its continuation has log-probability 0.
    after_blank = nn.functional.pad(beta[:, 1:], (0, 0, 0, 1), value=LOG_ZERO)
    after_blank[torch.arange(len(frames), device=frames.device), frames - 1, labels] = 0.0
    after_label = nn.functional.pad(beta[:, :, 1:], (0, 1), value=LOG_ZERO)
    return torch.exp(forward + log_blank + after_blank), torch.exp(forward + log_label + after_label)


def _forward_backward(log_blank: Tensor, log_label: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and beta, (N, T, U+1); entries outside an utterance's own lattice are LOG_ZERO."""
    if log_blank.device.type == "cuda" and _kernel_agrees(log_blank.device):
        from cspbench.asr.lattice_kernel import forward_backward

        return forward_backward(log_blank, log_label, frames, labels)
    return _torch_forward_backward(log_blank, log_label, frames, labels)


@cache
def _kernel_agrees(device: torch.device) -> bool:
    """Try the kernel on a small lattice, once a process; warn and return False if it fails or errs."""
    frames, labels = torch.tensor([9, 7], device=device), torch.tensor([3, 5], device=device)
    blank, label = -torch.arange(1.0, 217.0, device=device).sqrt().view(2, 2, 9, 6)

    def by_kernel() -> tuple[Tensor, Tensor]:
        from cspbench.asr.lattice_kernel import forward_backward

        return forward_backward(blank, label, frames, labels)

    return kernel_works("the transducer loss", by_kernel, lambda: _torch_forward_backward(blank, label, frames, labels))


def _torch_forward_backward(
    log_blank: Tensor, log_label: Tensor, frames: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return alpha and beta as `_forward_backward` does, in torch's operations.

    Written for arrival: ``a(t, u) = logaddexp(a(t-1, u) + in_blank(t, u), a(t, u-1) + in_label(t, u))``. Going forward
    the arc into (t, u) carries the weight of the node it leaves; on the reversed lattice, that of the node it enters.
    """
    pad = nn.functional.pad
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


def inside_lattice(lattice: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """Nodes of each utterance's own lattice: bool (N, T, U+1) for an array (N, T, U+1, ...)."""
    _, t, u1 = lattice.shape[:3]
    time = torch.arange(t, device=lattice.device) < frames[:, None]  # (N, T)
    label = torch.arange(u1, device=lattice.device) <= labels[:, None]  # (N, U+1)
    return time[:, :, None] & label[:, None, :]


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
