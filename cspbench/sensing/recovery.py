"""Outcome, loop and checks common to all solvers.

Given measurements ``y = w Phi^T`` of unknown sparse rows ``w``, find them again, either penalised,

    minimise 1/2 ||x Phi^T - y||^2 + penalty ||x||_1                    (`cspbench.sensing.penalised`)

or constrained to a support of given size,

    minimise 1/2 ||x Phi^T - y||^2  subject to  supp(x) in S            (`cspbench.sensing.constrained`, `omp`).

Every solver takes the measurements as their correlations ``y Phi = operator.adjoint(y)``, shape (rows, n): nothing else
of them enters, and a Gram known without its square root suffices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator

SolverState = dict[str, Tensor]
"""State carried from one iteration to the next, one row a signal in every tensor; "x" is the estimate."""

Finish = Callable[[SolverState], tuple[Tensor, Tensor]]
"""Of a state: offered solutions, shape (rows, n), and bool of shape (rows,): which of them are exact."""

_COMPACT = 8
"""Rows that are done are dropped from the work once they are an eighth of it: each time costs a copy of the rest."""


@dataclass(frozen=True)
class Recovery:
    """Outcome of a solver.

    Attributes:
        solution: shape (rows, n).
        iterations: how many were made, by the row that took longest.
        converged: bool, shape (rows,): whether a row met the stopping rule.
    """

    solution: Tensor
    iterations: int
    converged: Tensor


def iterate(
    state: SolverState,
    step: Callable[[SolverState], SolverState],
    settled: Callable[[SolverState, SolverState], Tensor],
    iterations: int,
    together: bool = False,
    finish: Finish | None = None,
    every: int = 0,
) -> Recovery:
    """Step until every row has settled; a row that has keeps its value and costs no more.

    Args:
        state: where to begin.
        step: new values of what changes in a state.
        settled: of the states before and after a step, bool of shape (rows,): which rows are done.
        iterations: at most this many.
        together: the rows depend on each other: none stops before the last.
        finish: offers solutions, and says which are exact; those rows are done.
        every: offers are asked for after so many steps, twice as many, and so on, doubling; 0: never.
    """
    solution = state["x"].clone()
    converged = torch.zeros(len(solution), dtype=torch.bool, device=solution.device)
    rows = torch.arange(len(solution), device=solution.device)  # which rows the state still holds
    done, due = 0, every
    while done < iterations and len(rows):
        done += 1
        moved = state | step(state)
        still = settled(state, moved)
        state = moved
        if finish is not None and due and done == due:
            offered, exact = finish(state)
            due *= 2
            state["x"] = torch.where(exact[:, None], offered, state["x"])
            still = still | exact
        if together:
            converged = still
            if bool(still.all()):
                break
            continue
        fresh = still & ~converged[rows]
        if not bool(fresh.any()):
            continue
        solution[rows[fresh]] = state["x"][fresh]
        converged[rows[fresh]] = True
        waiting = (~converged[rows]).nonzero()[:, 0]
        if (len(rows) - len(waiting)) * _COMPACT >= len(rows):
            rows, state = rows[waiting], {name: part[waiting] for name, part in state.items()}
    late = ~converged[rows] if not together else torch.ones_like(rows, dtype=torch.bool)
    solution[rows[late]] = state["x"][late]
    return Recovery(solution, done, converged)


def beginning(operator: Operator, correlations: Tensor, start: Tensor | None) -> Tensor:
    """The first estimate: a copy of `start`, or zero.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    if correlations.ndim != 2 or correlations.shape[1] != operator.columns:
        raise ValueError(
            f"correlations have shape (rows, {operator.columns}) for this operator, got {tuple(correlations.shape)}"
        )
    _check_finite("correlations", correlations)
    if start is None:
        return torch.zeros_like(correlations)
    if start.shape != correlations.shape:
        raise ValueError(f"a warm start has shape {tuple(correlations.shape)}, got {tuple(start.shape)}")
    _check_finite("start", start)
    return start.clone()


def residual(operator: Operator, correlations: Tensor, x: Tensor, start: Tensor | None) -> Tensor:
    """Correlations with what the first estimate `x` does not explain; without a start it explains nothing."""
    return correlations - operator.normal(x) if start is not None else correlations.clone()


def _check_finite(name: str, x: Tensor) -> None:
    finite = x.isfinite().all(-1)
    if not bool(finite.all()):
        bad = (~finite).nonzero()[:, 0]
        raise ValueError(f"{name}: NaN or infinity in {len(bad)} of {len(x)} rows, the first is row {int(bad[0])}")


def unchanged(tolerance: float) -> Callable[[SolverState, SolverState], Tensor]:
    """Stopping rule: the step changed the estimate by at most this fraction of its norm."""

    def settled(before: SolverState, moved: SolverState) -> Tensor:
        return (moved["x"] - before["x"]).norm(dim=-1) <= tolerance * moved["x"].norm(dim=-1)

    return settled


def same_support(before: SolverState, moved: SolverState) -> Tensor:
    """Stopping rule: the step chose the support it began with, or one that differs by entries of rounding."""
    rounding = 16 * torch.finfo(moved["x"].dtype).eps
    return (moved["support"] == before["support"]).all(-1) | unchanged(rounding)(before, moved)
