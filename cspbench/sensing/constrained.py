"""Recovery on a support of given size: minimise ``1/2 ||x Phi^T - y||^2`` subject to ``supp(x)`` in S.

`htp` is the one to begin with: few steps, values fitted exactly. `iht` costs two products a step and forms no Gram.
`cosamp` looks at three times as many columns as it keeps, and so corrects a poor choice soonest. Orthogonal matching
pursuit, which adds entries one by one, is in `cspbench.sensing.omp`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cspbench.sensing.debias import debias, debias_exact
from cspbench.sensing.operators import Operator
from cspbench.sensing.recovery import Recovery, SolverState, beginning, iterate, same_support, unchanged
from cspbench.sensing.subspace import normal_of_sparse
from cspbench.sensing.supports import RowRule, SupportRule, keep_per_row, project

_MARGIN = 0.01
"""c of Blumensath & Davies: how far below the largest step that lowers the misfit a step must be."""


@torch.no_grad()
def iht(
    operator: Operator,
    correlations: Tensor,
    rule: SupportRule,
    start: Tensor | None = None,
    iterations: int = 500,
    tolerance: float = 1e-6,
) -> Recovery:
    """Normalised iterative hard thresholding (Blumensath & Davies 2010, section III).

    ``x <- project(x + rate (b - x Phi^T Phi))`` with exact line search on the current support for the rate. Where that
    leads to another support the search does not hold, and the rate is halved until the step is one that lowers the
    misfit (below the paper's omega), down to 1/L, which always does. The misfit therefore never increases. Each row
    has a rate of its own under a `RowRule`; other rules may couple the rows, which then share one.

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        rule: chooses the support; the solution obeys it.
        start: warm start of shape (rows, n); without it the support begins at the largest correlations.
        iterations: at most this many.
        tolerance: a row has converged when its change is below this fraction of its norm.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    x = beginning(operator, correlations, start)
    alone = isinstance(rule, RowRule)
    support = rule(correlations if start is None else x)
    x = x * support
    state = {"x": x, "b": correlations, "support": support, "image": operator.normal(x)}
    safe = 1 / operator.lipschitz

    def total(products: Tensor) -> Tensor:
        return products.sum(-1, keepdim=True) if alone else products.sum()

    def step(now: SolverState) -> SolverState:
        x, image = now["x"], now["image"]
        gradient = now["b"] - image
        inside = gradient * now["support"]
        curvature = total(inside * normal_of_sparse(operator, inside, now["support"]))
        rate = torch.where(curvature > 0, total(inside.square()) / curvature, safe)
        far = torch.ones_like(rate, dtype=torch.bool)
        moved, support, moved_image = x.clone(), now["support"].clone(), image.clone()
        while bool(far.any()):
            again = far.nonzero()[:, 0] if alone else slice(None)
            support[again] = rule((x + rate * gradient)[again])
            moved[again] = (x[again] + (rate * gradient)[again]) * support[again]
            moved_image[again] = normal_of_sparse(operator, moved[again], support[again])
            change = moved - x
            stretch = rate * total(change * (moved_image - image))
            elsewhere = total((support != now["support"]).to(x.dtype)) > 0
            far = elsewhere & (rate > safe) & (stretch > (1 - _MARGIN) * total(change.square()))
            rate = torch.where(far, (rate / 2).clamp_min(safe), rate)
        return {"x": moved, "support": support, "image": moved_image}

    return iterate(state, step, unchanged(tolerance), iterations, together=not alone)


@torch.no_grad()
def htp(
    operator: Operator,
    correlations: Tensor,
    rule: SupportRule,
    start: Tensor | None = None,
    iterations: int = 50,
    debias_steps: int | None = None,
) -> Recovery:
    """Hard thresholding pursuit (Foucart 2011): a gradient step chooses the support, least squares on it the values.

    The gradient step is one over the mean of the Gram's diagonal, the 1 of the paper for columns of unit norm. A row
    has converged when its support repeats. Arguments as for `iht`, and:

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        rule: chooses the support; the solution obeys it.
        start: warm start.
        iterations: at most this many.
        debias_steps: conjugate gradient steps of each fit; by default the fit is exact (see `debias_exact`).

    Raises:
        ValueError: as for `iht`, and where an exact fit is not unique.
    """
    x = beginning(operator, correlations, start)
    x = x if start is None else project(x, rule)
    state = {"x": x, "b": correlations, "support": x != 0}
    rate = 1 / operator.mean_curvature

    def step(now: SolverState) -> SolverState:
        image = normal_of_sparse(operator, now["x"], now["support"])
        support = rule(now["x"] + rate * (now["b"] - image))
        return {"x": _fit(operator, now["b"], support, now["x"], debias_steps), "support": support}

    return iterate(state, step, same_support, iterations, together=not isinstance(rule, RowRule))


@torch.no_grad()
def cosamp(
    operator: Operator,
    correlations: Tensor,
    count: int,
    start: Tensor | None = None,
    iterations: int = 50,
    debias_steps: int | None = None,
) -> Recovery:
    """Compressive sampling matching pursuit (Needell & Tropp 2009, algorithm 1).

    The `2 count` largest correlations of the residual join the support; least squares on all of it; the `count` largest
    stay. A row has converged when its support repeats. What is returned is fitted once more to the support that stayed,
    which the paper leaves to the user.

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        count: entries of each row, >= 0; an exact fit needs ``3 count`` independent columns.
        start: warm start of shape (rows, n); its `count` largest entries are the first support.
        iterations: at most this many.
        debias_steps: conjugate gradient steps of each fit; by default the fit is exact (see `debias_exact`).

    Raises:
        ValueError: as for `htp`.
    """
    x = beginning(operator, correlations, start)
    keep, join = keep_per_row(count), keep_per_row(2 * count)
    x = project(x, keep)
    state = {"x": x, "b": correlations, "support": x != 0}

    def step(now: SolverState) -> SolverState:
        # Inside the support the residual has no correlation left but rounding, or that of an inexact fit.
        proxy = now["b"] - normal_of_sparse(operator, now["x"], now["support"])
        wide = join(proxy) | now["support"]
        fitted = _fit(operator, now["b"], wide, now["x"], debias_steps)
        support = keep(fitted)
        return {"x": fitted * support, "support": support}

    found = iterate(state, step, same_support, iterations)
    fitted = _fit(operator, correlations, found.solution != 0, found.solution, debias_steps)
    return Recovery(fitted, found.iterations, found.converged)


def _fit(operator: Operator, correlations: Tensor, support: Tensor, x: Tensor, steps: int | None) -> Tensor:
    if steps is None:
        return debias_exact(operator, correlations, support)
    return debias(operator, correlations, support, x, steps)
