"""Least squares on a known support, for all rows of a matrix at once."""

from __future__ import annotations

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator


@torch.no_grad()
def debias(
    operator: Operator, correlations: Tensor, support: Tensor, start: Tensor | None = None, steps: int = 50
) -> Tensor:
    """Minimise ``1/2 ||x Phi^T - y||^2`` over x that vanish outside the support, by conjugate gradients.

    Every row is a system of its own size; masks let all of them share each matrix product. A fixed gradient step would
    barely move the directions of small eigenvalue, which is where an activation Gram keeps its detail. Each step of CG
    lowers the misfit, so stopping early only leaves it larger than it could be.

    Args:
        operator: the sensing operator.
        correlations: ``y Phi``, shape (rows, n): all that is needed of the measurements.
        support: bool, shape (rows, n), True where x may differ from zero.
        start: warm start, shape (rows, n); entries outside the support are ignored. Zero by default.
        steps: conjugate gradient steps; as many as the largest support give the exact solution in exact arithmetic.

    Returns:
        Shape (rows, n), zero outside the support.
    """
    x = torch.zeros_like(correlations) if start is None else start * support
    residual = (correlations - operator.normal(x)) * support
    direction = residual.clone()
    norm = residual.square().sum(-1, keepdim=True)
    # Rows that have converged to rounding stand still: going on would divide noise by noise.
    floor = norm * torch.finfo(x.dtype).eps ** 2
    for _ in range(steps):
        image = operator.normal(direction) * support
        curvature = (direction * image).sum(-1, keepdim=True)
        active = (norm > floor) & (curvature > 0)
        step = torch.where(active, norm / curvature, 0)
        x += step * direction
        residual -= step * image
        previous, norm = norm, residual.square().sum(-1, keepdim=True)
        direction = residual + torch.where(active, norm / previous, 0) * direction
    return x
