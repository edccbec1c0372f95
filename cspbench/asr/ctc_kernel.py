"""The recursion over the states of CTC as one Triton kernel, for CUDA: a program for each utterance and direction."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from cspbench.asr.lattice_kernel import launch


def forward_backward(emitted: Tensor, passes: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the forward and backward variables of Graves et al. 2006, section 4.1, in the log domain.

    Both include the probability of their own frame.

    Args:
        emitted: log-probability of each state at each frame, (N, T, S), S = 2 U + 1, fp32 or fp64.
        passes: whether a path may enter a state from that two before, bool (N, S).
        frames: valid frames of each utterance, (N,), between 1 and T.
        labels: valid labels of each utterance, (N,), between 0 and U.

    Returns:
        alpha and beta, each (N, T, S); LOG_ZERO in states that no path reaches, and past frames and labels.
    """
    return launch(_walk, emitted, passes, frames, labels)


@triton.jit(do_not_specialize=["rows", "columns"])  # shapes change from batch to batch
def _walk(
    emitted: tl.tensor,
    passes: tl.tensor,
    frames: tl.tensor,
    labels: tl.tensor,
    alpha: tl.tensor,
    beta: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    POSITIONS: tl.constexpr,
    LOG_ZERO: tl.constexpr,
) -> None:
    """Walk from the first frame (program 0 of axis 1: alpha) or from the last one (program 1: beta).

    ``place`` counts states from the end where the walk begins. `reached` holds one frame: the variable of each place.
    """
    n = tl.program_id(0)
    back = tl.program_id(1)
    frame_count = tl.load(frames + n).to(tl.int32)
    state_count = 2 * tl.load(labels + n).to(tl.int32) + 1
    here = n.to(tl.int64) * rows * columns
    place = tl.arange(0, POSITIONS)
    inside = place < state_count
    state = tl.where(back == 1, state_count - 1 - place, place)
    # Going back, the state that is left two further on is the one that a path enters by passing.
    entered = n.to(tl.int64) * columns + tl.where(back == 1, state + 2, state)
    passing = tl.load(passes + entered, mask=inside & (place > 1), other=0).to(tl.int1)
    one_before = tl.where(place > 0, place - 1, 0)
    two_before = tl.where(place > 1, place - 2, 0)
    reached = tl.full([POSITIONS], LOG_ZERO, emitted.dtype.element_ty)
    for step in range(0, frame_count):
        node = here + tl.where(back == 1, frame_count - 1 - step, step) * columns + state
        stay = reached
        move = tl.where(place > 0, tl.gather(reached, one_before, 0), LOG_ZERO)
        leap = tl.where(passing, tl.gather(reached, two_before, 0), LOG_ZERO)
        stay = tl.where((step == 0) & (place < 2), 0.0, stay)  # a path begins in the first or the second place
        largest = tl.maximum(tl.maximum(stay, move), leap)
        reached = largest + tl.log(tl.exp(stay - largest) + tl.exp(move - largest) + tl.exp(leap - largest))
        reached += tl.load(emitted + node, mask=inside, other=0.0)
        reached = tl.where(inside & (reached > LOG_ZERO / 2), reached, LOG_ZERO)
        tl.store(tl.where(back == 1, beta, alpha) + node, reached, mask=inside)
