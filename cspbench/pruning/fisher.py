"""Ranking of weights by the loss expected if they go, from a factored diagonal of the Fisher information."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GRADIENT_INTERVAL = 4
"""Steps between two observations of the recogniser's own gradient: each costs a second pass through the encoder."""

GRADIENT_MEMORY = 0.2
"""Weight of the latest gradient in the running mean of squared gradients."""


@torch.no_grad()
def update_rows(rows: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    """Update the running mean of the squared gradient of each row.

    Args:
        rows: means by weight name, each of shape (out, 1); changed in place.
        gradients: by weight name, each of shape (out, in).
    """
    for name, gradient in gradients.items():
        size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).square()
        # A gradient that overflowed, as loss scaling produces them, teaches nothing.
        rows[name].lerp_(size.nan_to_num_(0.0, 0.0, 0.0), GRADIENT_MEMORY)


@torch.no_grad()
def fisher_diagonal(powers: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Diagonal of the Fisher information of every matrix, up to one factor common to all.

    For a matrix with inputs x and output gradients g it is about ``E[x_j^2] E[g_i^2]`` (Martens & Grosse 2015,
    arXiv:1503.05671). Along the outputs it is the squared gradient of row i over the power of all inputs.

    Args:
        powers: ``E[x_j^2]`` by name, each of shape (in,).
        rows: mean squared gradient of each row, summed over its weights, by name, each of shape (out, 1).

    Returns:
        By name, each of shape (out, in).
    """
    powers = {name: power.clamp_min(0) for name, power in powers.items()}
    # Inputs that were zero in all the calibration data have no importance; they must not make everything NaN.
    total = {name: power.sum() for name, power in powers.items()}
    outputs = {name: torch.where(total[name] > 0, rows[name] / total[name], 0) for name in powers}
    if not any(bool(x.any()) for x in outputs.values()):  # before the first gradient
        outputs = {name: torch.ones_like(x) for name, x in outputs.items()}
    # A row that had no gradient, such as that of a label that never occurred, ranks behind the others and not as one.
    least = 1e-6 * max((float(x.max()) for x in outputs.values()), default=0.0)
    return {name: outputs[name].clamp_min(least) * powers[name] for name in powers}


def importance(powers: Mapping[str, Tensor], rows: Mapping[str, Tensor], sensitivity: float) -> dict[str, Tensor]:
    """Importance of a unit of each weight: rank weights by their magnitude times this.

    Setting a weight w to zero is expected to raise the loss by ``w^2 F / 2`` (LeCun et al. 1990, Optimal Brain Damage),
    F being its `fisher_diagonal`. Ranking by ``|w| F^(sensitivity / 2)`` is ranking by magnitude for 0 and by the
    expected loss for 1. In between, it trusts the curvature half-way: the training that follows moves all weights, and
    F with them.

    Args:
        powers: ``E[x_j^2]`` by name, each of shape (in,).
        rows: mean squared gradient of each row, by name, each of shape (out, 1).
        sensitivity: the exponent, in [0, 1].

    Returns:
        By name, each of shape (out, in); empty with sensitivity 0.
    """
    if not sensitivity:
        return {}
    return {name: x.pow(sensitivity / 2) for name, x in fisher_diagonal(powers, rows).items()}
