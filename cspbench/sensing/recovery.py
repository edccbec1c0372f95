"""Sparse recovery, batched over the rows of a matrix.

Given measurements ``y = w Phi^T`` of unknown sparse rows ``w``, find them again, either penalised,

    minimise 1/2 ||x Phi^T - y||^2 + penalty ||x||_1                    (`ista`, `fista`)

or constrained to a support of given size,

    minimise 1/2 ||x Phi^T - y||^2  subject to  supp(x) in S            (`iht`, `htp`).

Every solver takes the measurements as their correlations ``y Phi = operator.adjoint(y)``, shape (rows, n): nothing else
of them enters, and a Gram known without its square root suffices.

A support rule maps a matrix of candidates to a bool matrix of the same shape, True where an entry may stay.
`keep_per_row` is the usual one; a rule that couples rows, for example the largest entries of the matrix, works too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cspbench.sensing.debias import debias
from cspbench.sensing.operators import Operator

SupportRule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recovery:
    """Outcome of a solver.

    Attributes:
        solution: shape (rows, n).
        iterations: how many were made.
        converged: bool, shape (rows,): whether a row met the stopping rule.
    """

    solution: Tensor
    iterations: int
    converged: Tensor


def keep_per_row(count: int) -> SupportRule:
    """Rule that keeps the `count` entries of largest absolute value in every row."""

    def rule(x: Tensor) -> Tensor:
        places = x.abs().topk(min(count, x.shape[-1]), dim=-1).indices
        return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, places, True)

    return rule


def soft_threshold(x: Tensor, level: Tensor | float) -> Tensor:
    """Move every entry towards zero by `level`: the proximal operator of ``level ||x||_1``."""
    return x.sign() * (x.abs() - level).clamp_min(0)


@torch.no_grad()
def ista(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Recovery:
    """Iterative soft thresholding (Daubechies et al. 2004): steps of 1/L, so the objective never increases.

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        penalty: weight of the l1 norm, >= 0; a tensor of shape (rows, 1) gives each row its own.
        start: warm start of shape (rows, n), zero by default.
        iterations: at most this many.
        tolerance: a row has converged when its change is below this share of its norm; all rows must.
    """
    x = torch.zeros_like(correlations) if start is None else start.clone()
    rate = 1 / operator.lipschitz
    converged = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for done in range(1, iterations + 1):
        moved = soft_threshold(x + rate * (correlations - operator.normal(x)), rate * penalty)
        converged, x = _settled(moved, x, tolerance), moved
        if converged.all():
            return Recovery(x, done, converged)
    return Recovery(x, iterations, converged)


@torch.no_grad()
def fista(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Recovery:
    """Accelerated soft thresholding (Beck & Teboulle 2009).

    The momentum of a row restarts when it points uphill (O'Donoghue & Candès 2015): without restarts it oscillates
    around the solution, and the change between iterates says little about the distance left. Arguments as for `ista`.
    """
    x = torch.zeros_like(correlations) if start is None else start.clone()
    ahead, age = x, torch.ones(x.shape[0], 1, dtype=x.dtype, device=x.device)
    rate = 1 / operator.lipschitz
    converged = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for done in range(1, iterations + 1):
        moved = soft_threshold(ahead + rate * (correlations - operator.normal(ahead)), rate * penalty)
        uphill = ((ahead - moved) * (moved - x)).sum(-1, keepdim=True) > 0
        older = torch.where(uphill, 1.0, (1 + (1 + 4 * age.square()).sqrt()) / 2)
        momentum = torch.where(uphill, 0.0, (age - 1) / older)
        ahead, age = moved + momentum * (moved - x), older
        converged, x = _settled(moved, x, tolerance), moved
        if converged.all():
            return Recovery(x, done, converged)
    return Recovery(x, iterations, converged)


@torch.no_grad()
def iht(
    operator: Operator,
    correlations: Tensor,
    rule: SupportRule,
    start: Tensor | None = None,
    iterations: int = 500,
    tolerance: float = 1e-6,
) -> Recovery:
    """Normalised iterative hard thresholding (Blumensath & Davies 2010).

    The step is exact line search on the current support, shared by all rows because `rule` may couple them; where that
    would raise the misfit the step falls back to 1/L, which cannot. The misfit therefore never increases.

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        rule: chooses the support; the solution obeys it.
        start: warm start of shape (rows, n); without it the support begins at the largest correlations.
        iterations: at most this many.
        tolerance: stop when the change is below this share of the norm in all rows.
    """
    if start is None:
        x, support = torch.zeros_like(correlations), rule(correlations)
    else:
        x, support = _threshold(start, rule)
    converged = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for done in range(1, iterations + 1):
        gradient = correlations - operator.normal(x)
        inside = gradient * support
        curvature = (inside * operator.normal(inside)).sum()
        rate = torch.where(curvature > 0, inside.square().sum() / curvature, 1 / operator.lipschitz)
        moved, chosen = _threshold(x + rate * gradient, rule)
        change = moved - x
        if (change * operator.normal(change)).sum() > 2 * (gradient * change).sum():
            moved, chosen = _threshold(x + gradient / operator.lipschitz, rule)
        converged, x, support = _settled(moved, x, tolerance), moved, chosen
        if converged.all():
            return Recovery(x, done, converged)
    return Recovery(x, iterations, converged)


@torch.no_grad()
def htp(
    operator: Operator,
    correlations: Tensor,
    rule: SupportRule,
    start: Tensor | None = None,
    iterations: int = 50,
    debias_steps: int = 50,
) -> Recovery:
    """Hard thresholding pursuit (Foucart 2011): a gradient step chooses the support, least squares on it the values.

    The gradient step is one over the mean of the Gram's diagonal, the 1 of the paper for columns of unit norm. A row
    has converged when its support repeats. Arguments as for `iht`; `debias_steps` are those of `debias`.
    """
    x = torch.zeros_like(correlations) if start is None else _threshold(start, rule)[0]
    support = torch.zeros_like(x, dtype=torch.bool)
    rate = 1 / operator.mean_curvature
    converged = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for done in range(1, iterations + 1):
        chosen = rule(x + rate * (correlations - operator.normal(x)))
        x = debias(operator, correlations, chosen, x, debias_steps)
        converged, support = (chosen == support).all(-1), chosen
        if converged.all():
            return Recovery(x, done, converged)
    return Recovery(x, iterations, converged)


def _threshold(x: Tensor, rule: SupportRule) -> tuple[Tensor, Tensor]:
    support = rule(x)
    return x * support, support


def _settled(moved: Tensor, before: Tensor, tolerance: float) -> Tensor:
    size = moved.norm(dim=-1)
    return (moved - before).norm(dim=-1) <= tolerance * size
