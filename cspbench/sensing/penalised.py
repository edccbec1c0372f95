"""l1-penalised recovery (the LASSO): minimise ``1/2 ||x Phi^T - y||^2 + penalty ||x||_1`` in every row.

All four solvers have the same minimiser where it is unique. `fista` is the one to begin with; `admm` pays a
factorisation and then suffers less from ill-conditioning; `amp` needs the fewest steps, on random operators only;
`ista` is the plain reference. With `polish`, each of them ends on the exact minimiser as soon as it has found which
entries are zero and the signs of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator
from cspbench.sensing.recovery import Finish, Recovery, SolverState, beginning, iterate, residual, unchanged
from cspbench.sensing.subspace import Subspace, normal_of_sparse, sparse_normal

_GUESSES = 3
"""Newton steps of `exact_finish`: near the solution it takes one, far from it no number helps."""

_SMALL = 32
_FRACTION = 10
"""`exact_finish` leaves rows alone that keep more entries than this, and more than one in so many."""

_ROUNDING = 16
"""Rounding of a correlation, in units of the largest."""


def soft_threshold(x: Tensor, level: Tensor | float) -> Tensor:
    """Move every entry towards zero by `level`, shape (rows, 1) or a number: the proximal operator of ``level |x|``."""
    return x - _clip(x, level)


def _clip(x: Tensor, level: Tensor | float) -> Tensor:
    if isinstance(level, Tensor):
        return torch.maximum(torch.minimum(x, level), -level)  # thrice as fast as clamp by tensors
    return x.clamp(-level, level)


@torch.no_grad()
def ista(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
    polish: int = 0,
) -> Recovery:
    """Iterative soft thresholding (Daubechies, Defrise & De Mol 2004): the objective never increases.

    ``x <- soft(x + (b - x Phi^T Phi) / L, penalty / L)`` with the correlations b and L the `lipschitz` of the operator.

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        penalty: weight of the l1 norm, >= 0; a tensor of shape (rows, 1) gives each row its own.
        start: warm start of shape (rows, n), zero by default.
        iterations: at most this many.
        tolerance: a row has converged when its change is below this fraction of its norm.
        polish: after so many iterations, and whenever their number has doubled since, rows are tried for the exact
            solution; see `exact_finish`. 0: never.

    Raises:
        ValueError: shapes that do not fit, a negative penalty, or numbers that are not finite.
    """
    state = _begin(operator, correlations, penalty, start)
    rate = 1 / operator.lipschitz

    def step(now: SolverState) -> SolverState:
        gradient = now["b"] - normal_of_sparse(operator, now["x"], now["x"] != 0)
        return {"x": soft_threshold(now["x"] + rate * gradient, rate * now["penalty"])}

    finish = _finish(operator)
    return iterate(state, step, unchanged(tolerance), iterations, finish=finish, every=polish)


@torch.no_grad()
def fista(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
    polish: int = 0,
) -> Recovery:
    """Accelerated soft thresholding (Beck & Teboulle 2009, eqs. 4.1-4.3).

    The momentum of a row restarts when it points uphill (O'Donoghue & Candès 2015, section 3.2): without restarts it
    oscillates around the solution, and the change between iterates says little about the distance left. Arguments and
    errors as for `ista`.
    """
    state = _begin(operator, correlations, penalty, start)
    state |= {"ahead": state["x"], "age": torch.ones_like(state["penalty"])}
    rate = 1 / operator.lipschitz

    def step(now: SolverState) -> SolverState:
        ahead, age = now["ahead"], now["age"]
        moved = soft_threshold(ahead + rate * (now["b"] - operator.normal(ahead)), rate * now["penalty"])
        change = moved - now["x"]
        uphill = ((ahead - moved) * change).sum(-1, keepdim=True) > 0
        older = torch.where(uphill, 1.0, (1 + (1 + 4 * age.square()).sqrt()) / 2)
        momentum = torch.where(uphill, 0.0, (age - 1) / older)
        return {"x": moved, "ahead": moved + momentum * change, "age": older}

    finish = _finish(operator)
    return iterate(state, step, unchanged(tolerance), iterations, finish=finish, every=polish)


@torch.no_grad()
def admm(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
    polish: int = 0,
    rho: float | None = None,
    relaxation: float = 1.6,
) -> Recovery:
    """Alternating direction method of multipliers (Boyd et al. 2011, section 6.4, over-relaxed as in section 3.4.3).

    ``x <- (b + rho (z - u)) (Phi^T Phi + rho I)^-1``, ``z <- soft(x + u, penalty / rho)``, ``u <- u + x - z``; the
    inverse is kept by the operator for the next call. The solution is z, the sparse one. A row has converged when both
    residuals of section 3.3.1, ``||x - z||`` and ``||z - z before||``, are below `tolerance` times its norm. Arguments
    and errors as for `ista`, and:

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        penalty: weight of the l1 norm.
        start: warm start.
        iterations: at most this many.
        tolerance: see above.
        polish: see `exact_finish`.
        rho: > 0, weight of the coupling; by default the mean curvature of the operator, which makes it free of scale.
        relaxation: in [1, 1.8]; 1 is the plain method.
    """
    state = _begin(operator, correlations, penalty, start)
    shift = operator.mean_curvature if rho is None else rho
    if shift <= 0 or not 1 <= relaxation <= 1.8:
        raise ValueError(f"admm needs rho > 0 and relaxation in [1, 1.8], got {shift} and {relaxation}")
    # The multiplier of a solution is its gradient: a warm start that is one stays one.
    u = torch.zeros_like(correlations)
    if start is not None:
        u = _clip(residual(operator, correlations, start, start), state["penalty"]) / shift
    state |= {"u": u, "gap": state["x"]}

    def step(now: SolverState) -> SolverState:
        z, u = now["x"], now["u"]
        x = operator.resolvent(now["b"] + shift * (z - u), shift)
        mixed = relaxation * x + (1 - relaxation) * z + u
        moved = soft_threshold(mixed, now["penalty"] / shift)
        return {"x": moved, "u": mixed - moved, "gap": x - moved}

    def settled(before: SolverState, moved: SolverState) -> Tensor:
        near = moved["gap"].norm(dim=-1) <= tolerance * moved["x"].norm(dim=-1)
        return near & unchanged(tolerance)(before, moved)

    return iterate(state, step, settled, iterations, finish=_finish(operator), every=polish)


@torch.no_grad()
def amp(
    operator: Operator,
    correlations: Tensor,
    penalty: Tensor | float,
    start: Tensor | None = None,
    iterations: int = 200,
    tolerance: float = 1e-6,
    polish: int = 0,
    damping: float = 1.0,
) -> Recovery:
    """Approximate message passing (Donoho, Maleki & Montanari 2009; for the LASSO 2010, part II).

    With c the mean curvature, q measurements and residual correlations r,

        x <- soft(x + r / c, level / c),   r <- b - x Phi^T Phi + r ||x||_0 / q,   level <- penalty + level ||x||_0 / q.

    The term in r is Onsager's: it keeps the errors of ``x + r / c`` Gaussian, so that a step removes far more of them
    than a gradient step would. A fixed point solves the LASSO, on any operator; convergence is proved for operators
    with independent entries only, and on others (a Gram of activations) AMP may diverge: see `converged`, lower
    `damping`.
    Arguments and errors as for `ista`, and:

    Args:
        operator: the sensing operator.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        penalty: weight of the l1 norm.
        start: warm start.
        iterations: at most this many.
        tolerance: see `ista`.
        polish: see `exact_finish`.
        damping: fraction of a step that is taken, in (0, 1] (Rangan, Schniter & Fletcher 2014); 1 is the plain method.
    """
    if not 0 < damping <= 1:
        raise ValueError(f"amp needs damping in (0, 1], got {damping}")
    state = _begin(operator, correlations, penalty, start)
    scale = 1 / operator.mean_curvature
    r = residual(operator, correlations, state["x"], start)
    # The first level is that of the noise the residual looks like; the recursion forgets it.
    noise = r.square().mean(-1, keepdim=True).sqrt()
    state |= {"r": r, "mean": state["x"], "level": torch.maximum(state["penalty"], 1.5 * noise)}

    def step(now: SolverState) -> SolverState:
        x = soft_threshold(now["mean"] + scale * now["r"], scale * now["level"])
        onsager = (x != 0).sum(-1, keepdim=True) / operator.measurements
        mean = torch.lerp(now["mean"], x, damping) if damping < 1 else x
        image = normal_of_sparse(operator, mean, x != 0) if mean is x else operator.normal(mean)
        r = now["b"] - image + onsager * now["r"]
        r = torch.lerp(now["r"], r, damping) if damping < 1 else r
        return {"x": x, "mean": mean, "r": r, "level": now["penalty"] + onsager * now["level"]}

    finish = _finish(operator)
    return iterate(state, step, unchanged(tolerance), iterations, finish=finish, every=polish)


def exact_finish(operator: Operator, correlations: Tensor, penalty: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Guess the minimiser from an estimate: which entries are zero, and the signs of the others, decide it.

    On the support S with signs s the minimiser solves ``x_S G_SS = b_S - penalty s``. What comes out suggests another
    support and signs, a Newton step for the optimality conditions ``x = soft(x + b - x G, penalty)`` (Griesse & Lorenz
    2008, a semismooth Newton method; after first-order steps, as the subspace phase of FPC_AS: Wen, Yin, Goldfarb &
    Zhang 2010). An answer counts only if it meets the conditions: a wrong guess costs time, never accuracy.

    Args:
        operator: the sensing operator; its Gram is formed.
        correlations: shape (rows, n).
        penalty: shape (rows, 1).
        x: estimates, shape (rows, n).

    Returns:
        Solutions of shape (rows, n), and bool of shape (rows,): which of them meet the optimality conditions.
    """
    gram, scale = operator.gram().to(x.dtype), 1 / operator.mean_curvature
    answer, exact = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    signs = x.sign()
    for _ in range(_GUESSES):
        # More columns than that are rank-deficient or too expensive.
        small = (signs != 0).sum(-1) <= min(operator.measurements, max(_SMALL, operator.columns // _FRACTION))
        rows, signs = rows[small], signs[small]
        if not len(rows):
            break
        b, level = correlations[rows], penalty[rows]
        subspace = Subspace.of(signs != 0)
        signs = subspace.take(signs)
        values, regular = subspace.solve(gram, subspace.take(b) - level * signs)
        slope = b - sparse_normal(gram, subspace, values)
        slack = _ROUNDING * torch.finfo(x.dtype).eps * b.abs().amax(-1)
        met = regular & (values * signs >= 0).all(-1) & (slope.abs().amax(-1) <= level[:, 0] + slack)
        answer[rows[met]], exact[rows[met]] = subspace.spread(values)[met], True
        onward = regular & ~met
        shifted = (subspace.spread(values) + scale * slope)[onward]
        rows = rows[onward]
        signs = shifted.sign() * (shifted.abs() > scale * level[onward])
    return answer, exact


def _finish(operator: Operator) -> Finish:
    return lambda now: exact_finish(operator, now["b"], now["penalty"], now["x"])


def _begin(operator: Operator, correlations: Tensor, penalty: Tensor | float, start: Tensor | None) -> SolverState:
    x = beginning(operator, correlations, start)
    level = torch.as_tensor(penalty, dtype=x.dtype, device=x.device)
    if level.ndim not in (0, 2) or (level.ndim == 2 and level.shape != (len(x), 1)):
        raise ValueError(f"a penalty is a number or has shape ({len(x)}, 1), got {tuple(level.shape)}")
    if not bool((level >= 0).all()):
        raise ValueError("a penalty is 0 or more")
    return {"x": x, "b": correlations, "penalty": level.expand(len(x), 1)}
