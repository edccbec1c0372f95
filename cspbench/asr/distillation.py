"""Distillation of a transducer over its lattice, after Panchapagesan et al. 2021 (arXiv:2011.06110).

A node of the lattice has as many probabilities as there are units, and a lattice has thousands of nodes. The transducer
loss looks at two of them alone: that of blank and that of the next label. The cheap form of distillation collapses all
the others into one class, and compares teacher and student over three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cspbench.asr.loss import LOG_ZERO, at_hand, inside_lattice, lattice_chunks, tanh_
from cspbench.asr.tokenizer import BLANK


class Lattice(NamedTuple):
    """What the logits ``weight @ tanh(encoded[t] + predicted[u]) + bias`` of a lattice are made of.

    Shapes: (N, T, J), (N, U + 1, J), (V, J) and (V,).
    """

    encoded: Tensor
    predicted: Tensor
    weight: Tensor
    bias: Tensor

    def logits(self) -> Tensor:
        """Return the logits of every node, (N, T, U + 1, V)."""
        hidden = torch.tanh(self.encoded[:, :, None] + self.predicted[:, None])
        return nn.functional.linear(hidden, self.weight, self.bias)


def distillation_loss(
    student: Lattice, teacher: Lattice, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = BLANK
) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher over {blank, next label, any other unit}.

    It is summed over the frames of an utterance and averaged over its label positions, which makes it grow with an
    utterance as the transducer loss does, and averaged over utterances. As there, a CPU goes through the valid nodes
    chunk by chunk; a GPU is faster on the whole padded lattice at once.

    Args:
        student: gradients reach all of it.
        teacher: of as many frames, labels and units; no gradient reaches it.
        targets: label ids, (N, U), int64; entries past `labels` are ignored but must be valid ids.
        frames: valid frames of each utterance, (N,), between 1 and T.
        labels: valid labels of each utterance, (N,), between 0 and U.
        blank: id of the blank unit.

    Returns:
        A scalar, on a CPU in fp32 even under autocast (fp64 for fp64 inputs).

    Raises:
        ValueError: teacher and student have lattices of different shapes.
    """
    shapes = [(*x.encoded.shape[:2], x.predicted.shape[1], len(x.bias)) for x in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"lattices of {shapes[0]} and {shapes[1]} logits cannot be compared")
    if at_hand(student.encoded):
        sums = _LatticeDivergence.apply(*student, *teacher, targets, frames, labels, blank)
    else:
        sums = divergence_of_logits(student.logits(), teacher.logits(), targets, frames, labels, blank)
    return (sums / (labels + 1)).mean()


def divergence_of_logits(
    student: Tensor, teacher: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = BLANK
) -> Tensor:
    """Return `distillation_loss` summed over the nodes of each utterance, (N,), from logits (N, T, U + 1, V)."""
    outside = ~inside_lattice(student, frames, labels)[..., None]
    following, last = _next_labels(targets, labels, blank)
    # Padding may hold anything, NaN included: it is replaced ahead of all arithmetic, or gradients would be NaN.
    ours = _collapsed(student.masked_fill(outside, 0.0), following[:, None], last[:, None], blank)
    with torch.no_grad():
        theirs = _collapsed(teacher.masked_fill(outside, 0.0), following[:, None], last[:, None], blank)
    return (theirs.exp() * (theirs - ours)).masked_fill(outside, 0.0).sum((1, 2, 3))


class _LatticeDivergence(torch.autograd.Function):
    """`divergence_of_logits` chunk by chunk. Its gradient is proportional to what arrives: one pass computes both.

    With the teacher's probabilities p of the classes and the student's y of the units, the gradient of a node's logits
    is ``y - q``, where q has p's values for blank and label, and shares its third in proportion to y.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        student, teacher, (targets, frames, labels, blank) = Lattice(*inputs[:4]), Lattice(*inputs[4:8]), inputs[8:]
        per_utterance = [torch.zeros_like(x) for x in student[:2]]
        shared = [x.new_zeros(len(labels), *x.shape) for x in student[2:]]
        sums = student.encoded.new_zeros(len(labels))
        following, last = _next_labels(targets, labels, blank)
        for n, rows, columns in lattice_chunks(frames, labels):
            label, none = following[None, n, :columns], last[None, n, :columns]
            hidden = tanh_(student.encoded[n, rows, None] + student.predicted[n, :columns])  # (t, U+1, J)
            taught = tanh_(teacher.encoded[n, rows, None] + teacher.predicted[n, :columns])
            logits = nn.functional.linear(hidden, student.weight, student.bias)
            theirs = _collapsed(nn.functional.linear(taught, teacher.weight, teacher.bias), label, none, blank)
            ours = _collapsed(logits, label, none, blank)
            sums[n] += (theirs.exp() * (theirs - ours)).sum()
            gradient = _logit_gradient(logits, ours.exp() - theirs.exp(), label, none, blank)
            inner = (gradient @ student.weight) * (1 - hidden.square())
            per_utterance[0][n, rows] += inner.sum(1)
            per_utterance[1][n, :columns] += inner.sum(0)
            gradient, hidden = gradient.flatten(0, 1), hidden.flatten(0, 1)
            shared[0][n].addmm_(gradient.t(), hidden)
            shared[1][n] += gradient.sum(0)
        ctx.save_for_backward(*per_utterance, *shared)
        return sums

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        weighted = [x * grads[0].view(-1, *[1] * (x.dim() - 1)) for x in ctx.saved_tensors]
        return *weighted[:2], *(x.sum(0) for x in weighted[2:]), *[None] * 8


def _next_labels(targets: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Return the next label of each position, and whether there is none (blank stands in); each (N, U + 1, 1)."""
    none = torch.arange(targets.shape[1] + 1, device=labels.device) >= labels[:, None]
    return nn.functional.pad(targets, (0, 1)).masked_fill(none, blank)[..., None], none[..., None]


def _collapsed(logits: Tensor, following: Tensor, none: Tensor, blank: int) -> Tensor:
    """Log-probabilities of blank, of the next label and of any other unit, (..., 3), for logits (..., V)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    label = logits.gather(-1, following.expand(*logits.shape[:-1], 1)).masked_fill(none, LOG_ZERO)
    rest = torch.logsumexp(_others(logits, following, blank), -1, keepdim=True)
    classes = torch.cat([logits[..., blank, None], label, rest], -1)
    return classes - torch.logsumexp(classes, -1, keepdim=True)


def _logit_gradient(logits: Tensor, excess: Tensor, following: Tensor, none: Tensor, blank: int) -> Tensor:
    """Gradient of a node's divergence by its logits, (..., V).

    `excess`, (..., 3), is by how much the student's probability of each class is above the teacher's.
    """
    gradient = _others(logits, following, blank).softmax(-1).mul_(excess[..., 2:])
    gradient.scatter_(-1, following.expand(*logits.shape[:-1], 1), excess[..., 1:2].masked_fill(none, 0.0))
    gradient[..., blank] = excess[..., 0]
    return gradient


def _others(logits: Tensor, following: Tensor, blank: int) -> Tensor:
    """Logits (..., V) without those of blank and of the next label."""
    others = logits.scatter(-1, following.expand(*logits.shape[:-1], 1), LOG_ZERO)
    others[..., blank] = LOG_ZERO
    return others
