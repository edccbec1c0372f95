"""Dual allocation: zeros of each matrix from one multiplier on the count.

Minimise the loss-weighted compression error ``sum_m E_m(k_m)`` over the zeros k_m of the matrices, subject to
``sum_m k_m = k``. The Lagrangian separates: at the optimum one more zero costs every matrix the same, the multiplier.
The cost of one more zero in matrix m is the least ``w^2 F / 2`` among its kept weights (F being the diagonal of the
Fisher information) times the fraction of such errors that its recovery leaves, which is measured at every sensing. The
multiplier is found by ranking the costs of all matrices together. Within a matrix the weights that go are chosen by the
ranking of the method.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cspbench.pruning.fisher import fisher_diagonal
from cspbench.pruning.mask import select
from cspbench.pruning.selection import SelectionParams
from cspbench.sensing import Operator

Matrices = Mapping[str, Tensor]

_LEAST = 1e-3
"""Lower bound on the fraction of the error that a recovery leaves: less is rounding."""


@torch.no_grad()
def dual_counts(weights: Matrices, fisher: Matrices, left: Matrices, zeros: int, pattern: str) -> dict[str, int]:
    """Zeros of each matrix; they add up to `zeros`.

    Args:
        weights: by name, each of shape (out, in); exact zeros count as gone.
        fisher: diagonal of the Fisher information, by name, each of shape (out, in).
        left: fraction of the error that recovery leaves, by name, each of shape ().
        zeros: over all matrices.
        pattern: see `SelectionParams`.
    """
    costs = {
        name: (w.square() * fisher[name] * left[name]).masked_fill(w == 0, -torch.inf) for name, w in weights.items()
    }
    masks = select(costs, zeros, SelectionParams(pattern=pattern))
    return {name: mask.numel() - int(mask.count_nonzero()) for name, mask in masks.items()}


@torch.no_grad()
def update_left(
    left: Mapping[str, Tensor], before: Matrices, after: Matrices, operators: Mapping[str, Operator], rows: Matrices
) -> None:
    """Measure the fraction of the error that a recovery left, of matrices that lost weights in it.

    Args:
        left: fractions by name, each of shape (); changed in place.
        before: weights by name, each of shape (out, in).
        after: recovered weights by name; zeros are what was dropped.
        operators: sensing operator by name.
        rows: mean squared gradient of each row, by name, each of shape (out, 1).
    """
    powers = {name: operator.gram().diagonal() for name, operator in operators.items()}
    fisher = fisher_diagonal(powers, rows)
    for name, operator in operators.items():
        gone = before[name] * (after[name] == 0)
        separate = float((gone.square() * fisher[name]).sum())
        if separate > 0:
            gap = before[name] - after[name]
            # The Fisher information of a row over the power of its inputs: the weight of the row's error in the loss.
            row = fisher[name].sum(1, keepdim=True) / powers[name].clamp_min(0).sum()
            together = float((row * gap * operator.normal(gap)).sum())
            left[name].fill_(max(_LEAST, together / separate))
