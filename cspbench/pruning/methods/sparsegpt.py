"""SparseGPT: optimal brain surgeon for whole matrices, nothing trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Search
from cspbench.pruning.allocation import allocate
from cspbench.pruning.mask import select
from cspbench.pruning.post_training import PostTraining, PostTrainingParams
from cspbench.pruning.registry import register
from cspbench.pruning.selection import Blocks, Groups, SelectionParams, parse_pattern


class SparseGPTParams(PostTrainingParams):
    """Options of SparseGPT."""

    damping: Annotated[float, Search(1e-3, 0.1, log=True)] = Field(
        0.01, gt=0, le=1, description="added to the diagonal of the second moment, as a fraction of its mean"
    )
    block: Annotated[int, Search(8, 128, log=True)] = Field(
        32, ge=1, description="columns whose mask is chosen together, knowing what earlier columns cost"
    )


@register("sparsegpt")
class SparseGPT(PostTraining):
    """Removes weights column by column; those not yet visited make up for each, as the optimal brain surgeon would.

    Removing w_q from a row costs ``w_q^2 / [H^-1]_qq`` and moves the others by ``-w_q / [H^-1]_qq * H^-1[:, q]``, H
    being the second moment of the inputs. All rows share one elimination order, left to right, and so one Cholesky
    factor of the inverse. Weights of inputs that are always zero go first. Masks are chosen `block` columns at a time
    (the paper: 128 of some thousands), each block having its part of the zeros; those of an N:M pattern a group at a
    time.
    """

    Params = SparseGPTParams
    params: SparseGPTParams
    summary = "no training: weights go column by column, the remaining ones are corrected by the inverse Hessian"
    source = "Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned, arXiv:2301.00774"

    def _saliency(self, weight: Tensor, moment: Tensor) -> Tensor:
        return _cost(weight.double(), inverse_factor(moment, self.params.damping), dead_inputs(moment))

    def _prune_matrix(self, weight: Tensor, moment: Tensor, zeros: int) -> tuple[Tensor, Tensor]:
        factor = inverse_factor(moment, self.params.damping)
        params = self.params.model_copy(update={"density": {}})
        mask, values = eliminate(weight, factor, zeros, params, self.params.block, dead_inputs(moment))
        if not values.isfinite().all():
            raise PruningError("sparsegpt: corrected weights are not finite; raise damping")
        return mask, values


def inverse_factor(moment: Tensor, damping: float) -> Tensor:
    """Upper triangular U with ``U^T U`` the inverse of the damped second moment; float64, shape (in, in).

    Row q of U, from the diagonal on, is row q of the inverse of the moment without the inputs before q, over the root
    of its first entry: what the elimination in order needs.

    Args:
        moment: symmetric positive semi-definite, shape (in, in).
        damping: added to the diagonal as a fraction of its mean.
    """
    level = damping * moment.diagonal().double().mean()
    eye = torch.eye(len(moment), dtype=torch.float64, device=moment.device)
    damped = moment.double() + (level if level > 0 else 1.0) * eye  # where no input is ever active, any level will do
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise PruningError("sparsegpt: the second moment of the inputs is not positive definite; raise damping")
    return torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)


def dead_inputs(moment: Tensor) -> Tensor:
    """Bool, shape (in,): True at inputs that were zero in all the calibration data."""
    return moment.diagonal() <= 0


def eliminate(
    weight: Tensor, factor: Tensor, zeros: int, params: SelectionParams, block: int = 32, dead: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Remove weights in the order of the columns, the later columns making up for it.

    Args:
        weight: shape (out, in).
        factor: see `inverse_factor`.
        zeros: number of weights to remove.
        params: the pattern they must form.
        block: columns whose mask is chosen together.
        dead: bool, shape (in,): columns that go first; none by default.

    Returns:
        Mask (bool, exactly `zeros` False) and values (zero where removed), both of the shape of `weight`.
    """
    w = weight.double()
    mask = torch.ones_like(weight, dtype=torch.bool)
    dead = torch.zeros_like(weight[0], dtype=torch.bool) if dead is None else dead
    for begin, end, count in _blocks(_cost(w, factor, dead), zeros, params, block, dead):
        costs = _cost(w[:, begin:end], factor[begin:end, begin:end], dead[begin:end])
        mask[:, begin:end] = select({"": costs}, count, params)[""]
        errors = torch.zeros_like(costs)
        for column in range(begin, end):
            row = factor[column, column:end]
            error = w[:, column] * ~mask[:, column] / row[0]
            w[:, column:end] -= torch.outer(error, row)
            errors[:, column - begin] = error
        w[:, end:] -= errors @ factor[begin:end, end:]
    return mask, (w * mask).to(weight.dtype)


def _cost(weight: Tensor, factor: Tensor, dead: Tensor) -> Tensor:
    """Error that removing a weight leaves, with all inputs before it decided; below zero where there never is one."""
    costs = (weight / factor.diagonal()).square()
    return costs.where(~dead, -1 / (1 + costs))


def _blocks(
    costs: Tensor, zeros: int, params: SelectionParams, block: int, dead: Tensor
) -> Iterator[tuple[int, int, int]]:
    """First column, last column + 1, and zeros of each block; patterns are not torn."""
    rows, columns = costs.shape
    pattern = parse_pattern(params.pattern)
    if isinstance(pattern, Groups):
        block = pattern.of
    elif isinstance(pattern, Blocks):
        block = max(1, block // pattern.columns) * pattern.columns
    begins = range(0, columns, block)
    widths = {str(begin): min(block, columns - begin) for begin in begins}
    if pattern is None:
        idle = {key: int(dead[int(key) : int(key) + width].sum()) for key, width in widths.items()}
        first = min(zeros, rows * sum(idle.values()))
        among_dead = allocate({key: (rows, count) for key, count in idle.items()}, first, SelectionParams())
        live = {key: (rows, width - idle[key]) for key, width in widths.items()}
        among_live = allocate(live, zeros - first, SelectionParams())
        counts = {key: among_dead[key] + among_live[key] for key in widths}
    else:
        dropped = ~select({"": costs}, zeros, params)[""]
        counts = {key: int(dropped[:, int(key) : int(key) + width].sum()) for key, width in widths.items()}
    return ((begin, begin + widths[str(begin)], counts[str(begin)]) for begin in begins)
