"""Orthogonal matching pursuit for all rows at once, from the Gram and the correlations."""

from __future__ import annotations

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator
from cspbench.sensing.recovery import Recovery, beginning

_LANES = 32
"""Columns whose maxima are found side by side."""


@torch.no_grad()
def omp(
    operator: Operator,
    correlations: Tensor,
    count: int,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
) -> Recovery:
    """Orthogonal matching pursuit (Pati, Rezaiifar & Krishnaprasad 1993), as Batch-OMP (Rubinstein et al. 2008).

    The column that correlates most with the residual joins the support, least squares on the support follows, `count`
    times. Residuals are never formed: ``b - x G`` are their correlations. The Cholesky factor of the Gram on the
    support grows by a row a step, as in the report; what is kept here is its inverse, of which a new row is two small
    products, and the least-squares solution moves along that row.

    Args:
        operator: the sensing operator; its Gram is formed. Its columns are taken as they are: where their norms differ
            much, the long ones win, and scaling them first is the user's choice.
        correlations: ``operator.adjoint(y)``, shape (rows, n).
        count: entries of each row at most, >= 0.
        start: warm start of shape (rows, n): its non-zero entries join first.
        tolerance: a row stops before `count` when no column correlates with its residual by more than this fraction of
            the largest correlation with its measurements, which is when the measurements are explained.

    Returns:
        `iterations` is the number of entries of the longest row; a row has converged unless it had to stop because
        the columns left depend on those chosen.

    Raises:
        ValueError: shapes that do not fit, more entries than measurements, or numbers that are not finite.
    """
    if not 0 <= count <= operator.measurements:
        raise ValueError(f"omp keeps 0 to {operator.measurements} entries (one a measurement at most), got {count}")
    first = beginning(operator, correlations, start) != 0
    if not len(correlations):
        return Recovery(correlations.clone(), 0, correlations.new_ones(0, dtype=torch.bool))
    pursuit = _Pursuit(operator.gram().to(correlations.dtype), correlations, min(count, operator.columns))
    pursuit.run(first, tolerance)
    return Recovery(pursuit.solution(), pursuit.done, ~pursuit.stuck)


class _Pursuit:
    """State of all rows: their columns in order of choice, and the solution on them.

    Row t of the inverse Cholesky factor of every signal is one plane ``inverse[t]``, shape (rows, count): planes that
    grow one by one stay contiguous.
    """

    def __init__(self, gram: Tensor, correlations: Tensor, count: int) -> None:
        rows = len(correlations)
        self.columns = correlations.shape[1]
        # Whole lanes of columns: see _argmax. What pads them correlates with nothing.
        self.gram = torch.nn.functional.pad(gram, (0, -self.columns % _LANES))
        self.b = torch.nn.functional.pad(correlations, (0, -self.columns % _LANES))
        self.diagonal = gram.diagonal()
        self.chosen = torch.zeros(rows, count, dtype=torch.long, device=gram.device)
        self.values = correlations.new_zeros(rows, count)
        self.inverse = correlations.new_zeros(count, rows, count)
        self.stuck = torch.zeros(rows, dtype=torch.bool, device=gram.device)
        self.done = 0

    def run(self, first: Tensor, tolerance: float) -> None:
        """Choose until the support is full or the residual is explained; columns of `first` go first."""
        floor = tolerance * self.b.abs().amax(-1)
        pending = torch.nn.functional.pad(first, (0, self.b.shape[1] - self.columns))
        waiting = bool(first.any())
        for place in range(self.chosen.shape[1]):
            slope = self._slope(place)
            scores = slope.abs().scatter_(1, self.chosen[:, :place], -1.0)
            asked = pending.any(-1) if waiting else self.stuck.new_zeros(())
            if waiting:
                scores = scores.masked_fill(pending, torch.inf)
            best = _argmax(scores).clamp_max(self.columns - 1)
            if waiting:
                pending.scatter_(1, best[:, None], False)
            going = ((scores.gather(1, best[:, None])[:, 0] > floor) | asked) & ~self.stuck
            if not bool(going.any()):
                break
            self._add(place, best, slope.gather(1, best[:, None])[:, 0], going)
            self.done = place + 1

    def solution(self) -> Tensor:
        """Shape (rows, n)."""
        return self.values.new_zeros(len(self.values), self.columns).scatter_add_(1, self.chosen, self.values)

    def _slope(self, place: int) -> Tensor:
        """Correlations with the residual, padded."""
        if not place:
            return self.b
        chosen, values = self.chosen[:, :place].contiguous(), self.values[:, :place].contiguous()
        image = torch.nn.functional.embedding_bag(chosen, self.gram, per_sample_weights=values, mode="sum")
        return torch.sub(self.b, image, out=image)

    def _add(self, place: int, best: Tensor, slope: Tensor, going: Tensor) -> None:
        """Append a column a row; rows that are not `going` get one of weight zero."""
        # Places not yet chosen meet zeros in the planes.
        common = self.gram.flatten()[best[:, None] * self.gram.shape[1] + self.chosen]
        planes = self.inverse[:place]
        along = (planes * common).sum(-1)
        pivot = self.diagonal[best] - along.square().sum(0)
        dependent = pivot <= (place + 1) * torch.finfo(pivot.dtype).eps * self.diagonal[best]
        self.stuck |= going & dependent
        length = torch.where(going & ~dependent, pivot, torch.inf).rsqrt()
        fresh = (planes * along[:, :, None]).sum(0).neg_()
        fresh[:, place] = 1
        fresh *= length[:, None]
        self.inverse[place] = fresh
        self.values.addcmul_(fresh, (slope * length)[:, None])
        self.chosen[:, place] = best


def _argmax(scores: Tensor) -> Tensor:
    """Column of the largest entry of each row: maxima of lanes first, which vectorise where an argmax does not."""
    lanes = scores.view(len(scores), -1, _LANES)
    lane = lanes.amax(1).argmax(1)
    return lanes.gather(2, lane[:, None, None].expand(-1, lanes.shape[1], 1))[:, :, 0].argmax(1) * _LANES + lane
