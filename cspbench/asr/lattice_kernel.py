"""The lattice recursion of the transducer loss as one Triton kernel, for CUDA.

Torch's operations take one launch and more for each anti-diagonal, some thousand for a batch. Here one program walks
through the anti-diagonals of one utterance in one direction, so that a batch is one launch of 2 N programs.

The walk is over anti-diagonals rather than frames: a frame would need an associative scan over its labels, which takes
``log2 U`` dependent log-additions, a diagonal takes one. It also adds in the order of `cspbench.asr.loss`, and so
rounds like it. warp-transducer and torchaudio (`rnnt_loss`) run a wavefront over the same diagonals.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from cspbench.asr.loss import LOG_ZERO

WARP_POSITIONS = 128
"""Label positions for each warp: within one warp, neighbours exchange values without a barrier."""

MOST_WARPS = 8


def forward_backward(log_blank: Tensor, log_label: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the forward and backward variables of Graves 2012 (arXiv:1211.3711), eqs. 16 and 18, in the log domain.

    Args:
        log_blank: log-probability of blank at each node, (N, T, U+1), fp32 or fp64.
        log_label: log-probability of the next label, like `log_blank`; that of the last position is not read.
        frames: valid frames of each utterance, (N,), between 1 and T.
        labels: valid labels of each utterance, (N,), between 0 and U.

    Returns:
        alpha and beta, each (N, T, U+1); entries outside an utterance's own lattice are LOG_ZERO.
    """
    return launch(_walk, log_blank, log_label, frames, labels)


def launch(kernel: Any, weights: Tensor, arcs: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Run a kernel over all utterances in both directions; the arrays that it fills begin as LOG_ZERO.

    Args:
        kernel: takes the arguments below, the two arrays, and the sizes of the last two axes of `weights`.
        weights: (N, T, S).
        arcs: any further array.
        frames: (N,).
        labels: (N,).

    Returns:
        What the kernel wrote for each direction, (N, T, S).
    """
    n, rows, columns = weights.shape
    alpha, beta = torch.full_like(weights, LOG_ZERO), torch.full_like(weights, LOG_ZERO)
    positions = triton.next_power_of_2(columns)
    constants = {"POSITIONS": positions, "LOG_ZERO": LOG_ZERO, "num_warps": warps(positions)}
    with torch.cuda.device_of(weights):  # Triton launches on the current device, whatever it is given
        kernel[n, 2](weights.contiguous(), arcs.contiguous(), frames, labels, alpha, beta, rows, columns, **constants)
    return alpha, beta


def warps(positions: int) -> int:
    """Number of warps for a number of label positions, both powers of two."""
    return max(1, min(MOST_WARPS, positions // WARP_POSITIONS))


@triton.jit(do_not_specialize=["rows", "columns"])  # shapes change from batch to batch
def _walk(
    log_blank: tl.tensor,
    log_label: tl.tensor,
    frames: tl.tensor,
    labels: tl.tensor,
    alpha: tl.tensor,
    beta: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    POSITIONS: tl.constexpr,
    LOG_ZERO: tl.constexpr,
) -> None:
    """Walk one lattice from its first node (program 0 of axis 1: alpha) or from its last one (program 1: beta).

    ``step`` and ``place`` are frames and labels away from the node where the walk begins. `reached` holds one
    anti-diagonal: the variable of the node at each place, LOG_ZERO where the lattice has none. Going forward, the arc
    into a node carries the weight of the node it leaves; going back, that of the node it enters.
    """
    n = tl.program_id(0)
    back = tl.program_id(1)
    frame_count = tl.load(frames + n).to(tl.int32)
    label_count = tl.load(labels + n).to(tl.int32)
    here = n.to(tl.int64) * rows * columns
    place = tl.arange(0, POSITIONS)
    before = tl.where(place > 0, place - 1, 0)
    label = tl.where(back == 1, label_count - place, place)
    reached = tl.full([POSITIONS], LOG_ZERO, log_blank.dtype.element_ty)
    last = (frame_count - 1) * columns + label_count
    begin = tl.where(back == 1, tl.load(log_blank + here + last), 0.0).to(log_blank.dtype.element_ty)
    for diagonal in range(0, frame_count + label_count):
        step = diagonal - place
        inside = (step >= 0) & (step < frame_count) & (place <= label_count)
        frame = tl.where(back == 1, frame_count - 1 - step, step)
        node = here + frame * columns + label
        left_by_blank = tl.where(back == 1, node, node - columns)
        left_by_label = tl.where(back == 1, node, node - 1)
        stay = reached + tl.load(log_blank + left_by_blank, mask=inside & (step > 0), other=LOG_ZERO)
        move = tl.gather(reached, before, 0) + tl.load(
            log_label + left_by_label, mask=inside & (place > 0), other=LOG_ZERO
        )
        larger = tl.where(stay > move, stay, move)
        apart = tl.where(stay == move, 0.0, tl.abs(stay - move))  # equal infinities have no difference
        reached = larger + tl.log(1.0 + tl.exp(-apart))
        reached = tl.where((diagonal == 0) & (place == 0), begin, reached)
        reached = tl.where(inside, reached, LOG_ZERO)
        tl.store(tl.where(back == 1, beta, alpha) + node, reached, mask=inside)
