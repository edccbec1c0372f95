"""Least squares on a known support, for all rows of a matrix at once.

Which of the two: `debias_exact` where supports are small against n and independent (a Cholesky factorisation a row,
k^3/3 operations each); `debias` where they are large, dependent, or a good start is known (each step is one product
with the Gram, shared by all rows, and any number of them is an improvement).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator
from cspbench.sensing.subspace import Subspace


@torch.no_grad()
def debias(
    operator: Operator, correlations: Tensor, support: Tensor, start: Tensor | None = None, steps: int = 50
) -> Tensor:
    """Minimise ``1/2 ||x Phi^T - y||^2`` over x that vanish outside the support, by conjugate gradients.

    Every row is a system of its own size; masks let all of them share each matrix product. A fixed gradient step would
    barely move the directions of small eigenvalue, which is where an activation Gram keeps its detail. Each step of CG
    lowers the misfit, so stopping early only leaves it larger than it could be (Hestenes & Stiefel 1952).

    Args:
        operator: the sensing operator.
        correlations: ``y Phi``, shape (rows, n): all that is needed of the measurements.
        support: bool, shape (rows, n), True where x may differ from zero.
        start: warm start, shape (rows, n); entries outside the support are ignored. Zero by default.
        steps: conjugate gradient steps; as many as the largest support give the exact solution in exact arithmetic.

    Returns:
        Shape (rows, n), zero outside the support.
    """
    kept = support.to(correlations.dtype)  # multiplying by bools takes several times as long
    x = torch.zeros_like(correlations) if start is None else start * kept
    residual = (correlations - operator.normal(x)) * kept
    direction = residual.clone()
    norm = _squared(residual)
    # Rows that have converged to rounding stand still, as do those whose direction the operator does not see: going on
    # would divide noise by noise.
    rounding = torch.finfo(x.dtype).eps
    floor = rounding**2 * _squared(correlations * kept)
    unseen = 4 * rounding * operator.mean_curvature
    for _ in range(steps):
        image = operator.normal(direction) * kept
        curvature = torch.linalg.vecdot(direction, image).unsqueeze(-1)
        active = (norm > floor) & (curvature > unseen * _squared(direction))
        step = torch.where(active, norm / curvature, 0)
        x.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        previous, norm = norm, _squared(residual)
        direction.mul_(torch.where(active, norm / previous, 0)).add_(residual)
    return x


def _squared(x: Tensor) -> Tensor:
    """Squared norm of each row, shape (rows, 1)."""
    return torch.linalg.vecdot(x, x).unsqueeze(-1)


@torch.no_grad()
def debias_exact(operator: Operator, correlations: Tensor, support: Tensor) -> Tensor:
    """The same minimum by a Cholesky factorisation a row.

    Args:
        operator: the sensing operator; its Gram is formed.
        correlations: ``y Phi``, shape (rows, n).
        support: bool, shape (rows, n), True where x may differ from zero.

    Returns:
        Shape (rows, n), zero outside the support.

    Raises:
        ValueError: the columns of some row's support are dependent, so its minimum is not unique.
    """
    subspace = Subspace.of(support)
    values, regular = subspace.solve(operator.gram().to(correlations.dtype), subspace.take(correlations))
    if not bool(regular.all()):
        row = int((~regular).nonzero()[0])
        raise ValueError(
            f"row {row}: the {int(support[row].sum())} columns of its support are dependent (the operator takes "
            f"{operator.measurements} measurements), so least squares has no unique solution: keep fewer, damp the "
            "Gram, or use conjugate gradients (debias)"
        )
    return subspace.spread(values)
